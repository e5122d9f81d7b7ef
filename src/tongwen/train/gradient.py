"""The gradient of a step, by backpropagation over its micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import torch

from tongwen.train.batch import Batch
from tongwen.train.masters import Masters
from tongwen.train.objective import Loss
from tongwen.train.rules import State

LossOf = Callable[[Batch], Loss]


class Gradient(Protocol):
    """How the gradient of a step is found."""

    def losses(self, loss_of: LossOf, batches: Sequence[Batch]) -> list[Loss]:
        """The losses of the micro-batches, without graph; the gradient of their sum is ready."""

    def norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""

    def taken(self) -> None:
        """The step was made along the gradient."""

    def give_up(self) -> bool:
        """Whether a gradient that is not finite may be passed over, as the next one will do."""

    def figures(self) -> dict[str, float]:
        """What is recorded of every step."""

    def state(self) -> State:
        """What a resumed run needs."""

    def load(self, state: State) -> None:
        """Take what `state()` gave."""


class Backpropagation:
    """Gradients in the compute precision, summed in fp32."""

    def __init__(self, masters: Masters, scale: LossScale | None = None) -> None:
        self._masters = masters
        self._scale = scale

    def losses(self, loss_of: LossOf, batches: Sequence[Batch]) -> list[Loss]:
        """The losses of the micro-batches, without graph; the gradient of their sum is ready."""
        losses = []
        for batch in batches:
            loss = loss_of(batch)
            (loss.value * self._scale.value if self._scale else loss.value).backward()
            losses.append(Loss(loss.value.detach(), loss.figures))
        self._masters.reduce()
        return losses

    def norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""
        if self._scale is None:
            return self._masters.gradient_norm(clip)
        self._masters.scale_gradients(1 / self._scale.value)
        return self._masters.gradient_norm(clip)

    def taken(self) -> None:
        """Let the scale of the loss grow."""
        if self._scale is not None:
            self._scale.grow()

    def give_up(self) -> bool:
        """Halve the scale of the loss; nothing to halve means that the gradient itself is wrong."""
        return self._scale is not None and self._scale.halve()

    def figures(self) -> dict[str, float]:
        """The scale of the loss, and the steps that were passed over for it."""
        if self._scale is None:
            return {}
        return {"loss_scale": self._scale.value, "skipped": self._scale.skipped}

    def state(self) -> State:
        """The scale of the loss."""
        return self._scale.state() if self._scale else {}

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        if self._scale:
            self._scale.load(state)


class LossScale:
    """What losses are multiplied by, so that their gradients keep within the range of fp16.

    A power of two, so that dividing by it again is exact. It doubles after 2,000 steps without an
    overflow and halves with each (Micikevicius et al. 2018, Mixed precision training,
    arXiv:1710.03740, section 3.2; the constants are those of torch's GradScaler).
    """

    FIRST: Final = 2.0**16
    PATIENCE: Final = 2000

    def __init__(self) -> None:
        self.value = self.FIRST
        self.skipped = 0
        self._good = 0

    def grow(self) -> None:
        """A step was within the range."""
        self._good += 1
        if self._good == self.PATIENCE:
            self.value *= 2
            self._good = 0

    def halve(self) -> bool:
        """A step was out of the range; False where the scale is 1 and cannot be the reason."""
        if self.value <= 1:
            return False
        self.value /= 2
        self.skipped += 1
        self._good = 0
        return True

    def state(self) -> State:
        """Scale, steps since it changed, and steps passed over."""
        numbers = [self.value, self._good, self.skipped]
        return {"loss_scale": torch.tensor(numbers, dtype=torch.float64)}

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        self.value, good, skipped = state["loss_scale"].tolist()
        self._good, self.skipped = int(good), int(skipped)
