"""The average of the weights over the steps, which is often better than the last of them.

`ema` forgets exponentially, and faster at first, so that the beginning does not linger. `mean` is
the plain mean over the last steps (stochastic weight averaging, Izmailov et al. 2018,
arXiv:1803.05407; LAWA, arXiv:2209.14981, takes a few of them). Either takes one more fp32 copy of
the weights that learn, and does not touch the training itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tongwen.config import OptimizerConfig
from tongwen.train.rules import Named, State
from tongwen.train.schedule import decay_start

PREFIX = "average."


class Average:
    """The running average of the masters."""

    def __init__(self, named: Named, config: OptimizerConfig, steps: int) -> None:
        self._named = named
        self._ema = config.average_decay if config.average == "ema" else None
        self._begin = 0 if self._ema is not None else decay_start(steps, config.average_last)
        self._step = 0
        self._weights: list[Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the masters as they are after a step."""
        count = self._step - self._begin
        self._step += 1
        if count < 0:
            return
        masters = list(self._named.values())
        if not self._weights:
            self._weights = [master.detach().clone() for master in masters]
        else:
            torch._foreach_lerp_(self._weights, masters, self._share(count))

    def _share(self, count: int) -> float:
        """The share of the newest weights in the average, after `count` others."""
        if self._ema is None:
            return 1 / (count + 1)
        return 1 - min(self._ema, (1 + count) / (10 + count))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The average, by parameter name; empty before the first step that counts."""
        return dict(zip(self._named, self._weights, strict=True)) if self._weights else {}

    @torch.no_grad()
    def exchange(self) -> None:
        """Let masters and average change places; twice is as before, to the bit."""
        for master, weight in zip(self._named.values(), self._weights, strict=True):
            kept = master.detach().clone()
            master.copy_(weight)
            weight.copy_(kept)

    def state(self) -> State:
        """The average, and the steps so far."""
        weights = {f"{PREFIX}{name}": weight for name, weight in self.weights.items()}
        return {f"{PREFIX}step": torch.tensor(self._step), **weights}

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        self._step = int(state[f"{PREFIX}step"])
        if self._step > self._begin:
            self._weights = [
                state[f"{PREFIX}{name}"].to(master.device, copy=True)
                for name, master in self._named.items()
            ]
