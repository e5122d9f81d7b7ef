"""The weights that learn, in fp32, whatever the precision of the computation.

A bf16 weight has 8 bits of mantissa, so an update below 1/256 of it would vanish. The weights that
learn are therefore fp32 masters, the model computes with copies of them, and the gradients of
micro-batches are summed in fp32. Weights that do not learn exist in the compute dtype alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.native import add_in_place
from tongwen.train.objective import Loss
from tongwen.train.processes import sum_gradients

T = TypeVar("T")


class Masters:
    """fp32 masters of the parameters of a model that have `requires_grad`.

    Takes a model in any precision and turns its parameters to `dtype`; where that is fp32, they are
    the masters themselves. Buffers stay as they are: rotary frequencies in bf16 would be wrong by
    whole positions.
    """

    sharded = False
    """Whether each process holds but its rows."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self.names: list[str] = []
        self.masters: list[Tensor] = []
        self._params: list[Tensor] = []
        self._frozen: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                master = parameter.detach().float()
                self.names.append(name)
                self._params.append(parameter)
                self.masters.append(master)
                parameter.data = master if dtype == torch.float32 else master.to(dtype)
                continue
            self._frozen[name] = parameter
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        self._shared = dtype == torch.float32
        if self._shared:
            self.masters = self._params
            return
        for learning, master in zip(self._params, self.masters, strict=True):
            # As soon as it is there, so that gradients never stand in both precisions at once.
            learning.register_post_accumulate_grad_hook(partial(_add_gradient, master))

    def __len__(self) -> int:
        return len(self.masters)

    def forward(self, work: Callable[[], Loss]) -> Loss:
        """Compute a loss with the model."""
        return work()

    def look(self, work: Callable[[], T]) -> T:
        """Compute something with the model that has no gradient."""
        return work()

    @property
    def named(self) -> dict[str, Tensor]:
        """The masters, by parameter name."""
        return dict(zip(self.names, self.masters, strict=True))

    @property
    def frozen(self) -> dict[str, Tensor]:
        """What is held here of the weights that do not learn, by parameter name."""
        return {name: parameter.detach() for name, parameter in self._frozen.items()}

    def reduce(self) -> None:
        """Sum the gradients over all processes."""
        sum_gradients(self.masters)

    def gradient_norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""
        grads = [master.grad for master in self.masters if master.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.masters, clip, norm)
        return float(norm)

    def scale_gradients(self, factor: float) -> None:
        """Multiply the gradients."""
        grads = [master.grad for master in self.masters if master.grad is not None]
        torch._foreach_mul_(grads, factor)

    def clear(self) -> None:
        """Drop the gradients."""
        for master in self.masters:
            master.grad = None

    def publish(self) -> None:
        """Bring the masters to the model."""
        if not self._shared:
            torch._foreach_copy_([p.data for p in self._params], [m.data for m in self.masters])

    def weights(self) -> dict[str, Tensor]:
        """The fp32 weights, by parameter name."""
        return {name: master.detach() for name, master in self.named.items()}

    def own(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this process holds of stored weights or moments: all of it."""
        return dict(stored)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take weights as `weights()` gave them."""
        with torch.no_grad():
            for name, master in zip(self.names, self.masters, strict=True):
                master.copy_(weights[name])
        self.publish()


def _add_gradient(master: Tensor, parameter: Tensor) -> None:
    """Move the gradient of a parameter into the fp32 sum of its master."""
    assert parameter.grad is not None, "the hook runs when there is one"
    if master.grad is None:
        master.grad = parameter.grad.float()
    else:
        add_in_place(master.grad, parameter.grad)
    parameter.grad = None
