"""The weights that learn, in fp32, whatever the precision of the computation.

A bf16 weight has 8 bits of mantissa, so an update below 1/256 of it would vanish. The weights that
learn are therefore fp32 masters, the model computes with copies of them, and the gradients of
micro-batches are summed in fp32. Weights that do not learn exist in the compute dtype alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Masters:
    """fp32 masters of the parameters of a model that have `requires_grad`.

    Takes a model in any precision and turns its parameters to `dtype`; where that is fp32, they are
    the masters themselves. Buffers stay as they are: rotary frequencies in bf16 would be wrong by
    whole positions.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self.names: list[str] = []
        self.masters: list[Tensor] = []
        self._params: list[Tensor] = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                master = parameter.detach().float()
                self.names.append(name)
                self._params.append(parameter)
                self.masters.append(master)
                parameter.data = master if dtype == torch.float32 else master.to(dtype)
            elif parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
        self._shared = dtype == torch.float32
        if self._shared:
            self.masters = self._params

    def __len__(self) -> int:
        return len(self.masters)

    def accumulate(self) -> None:
        """Move the gradients of a micro-batch into the fp32 sums."""
        if self._shared:
            return
        for param, master in zip(self._params, self.masters, strict=True):
            if param.grad is None:
                continue
            if master.grad is None:
                master.grad = param.grad.float()
            else:
                master.grad += param.grad
            param.grad = None

    def gradient_norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""
        grads = [master.grad for master in self.masters if master.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.masters, clip, norm)
        return float(norm)

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
        return {n: m.detach() for n, m in zip(self.names, self.masters, strict=True)}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take weights as `weights()` gave them."""
        with torch.no_grad():
            for name, master in zip(self.names, self.masters, strict=True):
                master.copy_(weights[name])
        self.publish()
