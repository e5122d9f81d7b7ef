"""MeZO: training with forward passes alone (Malladi et al. 2023, arXiv:2305.17333).

The weights are moved by +ε and by -ε along a random direction z, and the difference of the two
losses over 2ε estimates the slope along z; the step goes down it. z is never stored: it is drawn
again from (seed, step, name of the weight) each of the four times that it is needed. So training
takes the memory of evaluation: no gradients, no activations kept, no moments. It takes many more
steps than backpropagation does, and suits fine-tuning, where few directions matter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from tongwen.config import OptimizerConfig
from tongwen.train.batch import Batch
from tongwen.train.gradient import LossOf
from tongwen.train.masters import Masters
from tongwen.train.objective import Loss
from tongwen.train.processes import exchange
from tongwen.train.rules import State, is_decayed

EPSILON: Final = 1e-3
"""How far the weights are moved, as in the paper."""


class MeZO:
    """The slope of the loss along a random direction, and the step down it."""

    def __init__(self, masters: Masters, config: OptimizerConfig, seed: int) -> None:
        self._masters = masters
        self._decay = config.weight_decay
        self._seed = seed
        self._step = 0
        self._slope = 0.0

    @torch.no_grad()
    def losses(self, loss_of: LossOf, batches: Sequence[Batch]) -> list[Loss]:
        """The losses of the micro-batches, as means of both sides; the slope is ready."""
        self._move(EPSILON)
        above = [loss_of(batch) for batch in batches]
        self._move(-2 * EPSILON)
        below = [loss_of(batch) for batch in batches]
        self._move(EPSILON)
        pairs = list(zip(above, below, strict=True))
        mine = [float(a.value) - float(b.value) for a, b in pairs]
        self._slope = math.fsum(one for parts in exchange(mine) for one in parts) / (2 * EPSILON)
        return [_mean(*pair) for pair in pairs]

    def norm(self, clip: float) -> float:
        """The magnitude of the slope, which is cut to `clip` where it is larger."""
        norm = abs(self._slope)
        if 0 < clip < norm:
            self._slope *= clip / norm
        return norm

    def taken(self) -> None:
        """Nothing follows from it."""

    def give_up(self) -> bool:
        """A slope that is not finite has no remedy here."""
        return False

    def figures(self) -> dict[str, float]:
        """Nothing besides."""
        return {}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move the masters down the slope."""
        for name, master in self._named():
            if is_decayed(name, master):
                master.mul_(1 - lr * self._decay)
            master.add_(self._direction(name, master), alpha=-lr * self._slope)
        self._step += 1

    def state(self) -> State:
        """The count of steps: directions follow from it."""
        return {"mezo.step": torch.tensor(self._step)}

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        self._step = int(state["mezo.step"])

    def _move(self, far: float) -> None:
        for name, master in self._named():
            master.add_(self._direction(name, master), alpha=far)
        self._masters.publish()

    def _named(self) -> list[tuple[str, Tensor]]:
        return list(self._masters.named.items())

    def _direction(self, name: str, like: Tensor) -> Tensor:
        """Normal numbers of this step for a weight."""
        digest = hashlib.sha256(f"mezo:{self._seed}:{self._step}:{name}".encode()).digest()
        source = torch.Generator()
        source.manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        return torch.randn(like.shape, generator=source).to(like.device)


def _mean(above: Loss, below: Loss) -> Loss:
    figures = {name: (value + below.figures[name]) / 2 for name, value in above.figures.items()}
    return Loss((above.value + below.value) / 2, figures)
