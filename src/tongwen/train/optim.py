"""The optimiser: masters, the gradient of a step, the rule that moves them, and their average."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.config import TrainConfig
from tongwen.errors import RunError
from tongwen.models.device import device_of, placed
from tongwen.train.adamw8bit import adamw8bit
from tongwen.train.average import Average
from tongwen.train.batch import Batch
from tongwen.train.gradient import Backpropagation, Gradient, LossOf, LossScale
from tongwen.train.masters import Masters
from tongwen.train.mezo import MeZO
from tongwen.train.muon import muon
from tongwen.train.objective import Loss
from tongwen.train.rules import AdamW, Rule, State
from tongwen.train.sharding import ShardedMasters


class Optimizer:
    """The gradient of a step over its micro-batches, and the move along it."""

    def __init__(
        self, masters: Masters, gradient: Gradient, rule: Rule, average: Average | None = None
    ) -> None:
        self.masters = masters
        self._gradient = gradient
        self._rule = rule
        self._average = average

    def losses(self, loss_of: LossOf, batches: Sequence[Batch]) -> list[Loss]:
        """The losses of the micro-batches, without graph; the gradient of their sum is ready."""
        return self._gradient.losses(loss_of, batches)

    def gradient_norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""
        return self._gradient.norm(clip)

    def step(self, lr: float) -> None:
        """Update the masters, and the model from them."""
        self._rule.step(lr)
        self._gradient.taken()
        self.masters.publish()
        self._end()

    def skip(self) -> bool:
        """Pass over a gradient out of the range of fp16; False where that is not what is wrong."""
        skipped = self._gradient.give_up()
        if skipped:
            self._end()
        return skipped

    def _end(self) -> None:
        self.masters.clear()
        if self._average is not None:
            self._average.update()

    def figures(self) -> dict[str, float]:
        """What is recorded of every step, besides loss and gradient."""
        return self._gradient.figures()

    def weights(self) -> dict[str, Tensor]:
        """The fp32 weights that the run would end with: their average, where there is one."""
        average = self._average.weights if self._average is not None else {}
        return average or self.masters.weights()

    @property
    def averages(self) -> bool:
        """Whether there is an average by now."""
        return self._average is not None and bool(self._average.weights)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model computes with the average while the block lasts."""
        assert self._average is not None, "there is no average"
        self._average.exchange()
        self.masters.publish()
        try:
            yield
        finally:
            self._average.exchange()
            self.masters.publish()

    def state(self) -> State:
        """All that a resumed run needs beside the weights."""
        average = self._average.state() if self._average is not None else {}
        return {**self._gradient.state(), **self._rule.state(), **average}

    def load(self, weights: dict[str, Tensor], state: State) -> None:
        """Take weights as `masters.weights()` and state as `state()` gave them."""
        self.masters.load_weights(weights)
        try:
            self._gradient.load(state)
            self._rule.load(state)
            if self._average is not None:
                self._average.load(state)
        except KeyError as error:
            raise RunError(
                f"the checkpoint holds no {error} of this optimiser",
                "go on with the --optimizer, --precision and --average that it was made with",
            ) from None


def whole_weights(optimizer: Optimizer, *, with_frozen: bool) -> dict[str, Tensor]:
    """The weights that the run ends with, and those that do not learn, in the leader's memory."""
    masters, weights = optimizer.masters, optimizer.weights()
    if isinstance(masters, ShardedMasters):
        return masters.whole({**masters.frozen, **weights} if with_frozen else weights)
    return weights


def new_optimizer(
    model: PreTrainedModel, config: TrainConfig, dtype: torch.dtype, steps: int
) -> Optimizer:
    """The optimiser of a model for a run of so many steps.

    The parameters of the model are turned to `dtype` and brought to the device of the settings.
    """
    device = device_of(config.device)
    if config.shard == "full":
        masters: Masters = ShardedMasters(model, dtype, device, offload=config.offload)
    else:
        masters = Masters(placed(model, device), dtype)
    average = Average(masters.named, config, steps) if config.average is not None else None
    if config.optimizer == "mezo":
        mezo = MeZO(masters, config, config.seed)
        return Optimizer(masters, mezo, mezo, average)
    scale = LossScale() if dtype == torch.float16 else None
    rules = {"adamw": AdamW, "adamw8bit": adamw8bit, "muon": muon}
    rule = rules[config.optimizer](masters.named, config)
    return Optimizer(masters, Backpropagation(masters, scale), rule, average)
