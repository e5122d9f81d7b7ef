"""The optimiser: masters, and the rule that moves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.train.batch import Batch
from tongwen.train.masters import Masters
from tongwen.train.objective import Loss

BETAS = (0.9, 0.95)
EPS = 1e-8


class Rule(Protocol):
    """How weights move along their gradients."""

    def step(self, lr: float) -> None:
        """Update the masters in place."""

    def state(self) -> dict[str, Tensor]:
        """What the rule remembers, as `PARAMETER.KEY`."""

    def load(self, state: dict[str, Tensor]) -> None:
        """Take what `state()` gave."""


class AdamW:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) over fp32 masters."""

    def __init__(self, masters: Masters, weight_decay: float) -> None:
        self._masters = masters
        decayed: list[Tensor] = []
        rest: list[Tensor] = []
        for name, master in zip(masters.names, masters.masters, strict=True):
            (decayed if is_decayed(name, master) else rest).append(master)
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            betas=BETAS,
            eps=EPS,
            fused=True,
        )

    def step(self, lr: float) -> None:
        """Update the masters in place."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._adamw.step()

    def state(self) -> dict[str, Tensor]:
        """The moments and step counts, by parameter name."""
        return {
            f"{name}.{key}": value
            for name, master in zip(self._masters.names, self._masters.masters, strict=True)
            for key, value in self._adamw.state[master].items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take what `state()` gave."""
        for name, master in zip(self._masters.names, self._masters.masters, strict=True):
            self._adamw.state[master] = {
                key: state[f"{name}.{key}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
            }


def is_decayed(name: str, weight: Tensor) -> bool:
    """Norms (vectors) and embeddings are scales and directions; pulling them to zero hurts."""
    return weight.ndim >= 2 and "embed" not in name and "lm_head" not in name


class Optimizer:
    """The gradient of a step over its micro-batches, and the move along it."""

    def __init__(self, masters: Masters, rule: Rule) -> None:
        self.masters = masters
        self._rule = rule

    def losses(self, loss_of: Callable[[Batch], Loss], batches: Sequence[Batch]) -> list[Loss]:
        """The losses of the micro-batches, without graph; the gradient of their sum is ready."""
        losses = []
        for batch in batches:
            loss = loss_of(batch)
            loss.value.backward()
            self.masters.accumulate()
            losses.append(Loss(loss.value.detach(), loss.figures))
        return losses

    def gradient_norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""
        return self.masters.gradient_norm(clip)

    def step(self, lr: float) -> None:
        """Update the masters, and the model from them."""
        self._rule.step(lr)
        self.masters.clear()
        self.masters.publish()

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs beside the weights."""
        return self._rule.state()

    def load(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Take weights as `masters.weights()` and state as `state()` gave them."""
        self.masters.load_weights(weights)
        self._rule.load(state)


def new_optimizer(model: PreTrainedModel, weight_decay: float, dtype: torch.dtype) -> Optimizer:
    """The optimiser of a model, whose parameters are turned to `dtype`."""
    masters = Masters(model, dtype)
    return Optimizer(masters, AdamW(masters, weight_decay))
