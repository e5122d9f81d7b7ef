"""Linear layers whose weights are stored in few bits and never learn.

The weight is restored for every product, in the forward pass and again in the backward pass, and
kept by neither: what stands in memory is the stored form, and one restored layer at a time.

Legend: O outputs, I inputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuantLinear(nn.Module):
    """A linear layer whose weight [O, I] is stored in another form."""

    bias: nn.Parameter | None

    def __init__(self, weight_OI: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight_OI.shape
        self.register_parameter("bias", bias)

    def restore(self, weight_OI: Tensor) -> None:
        """Put the weight into `weight_OI`, contiguous, in any precision."""
        raise NotImplementedError

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """The weight [O, I]."""
        like = next(self.buffers())
        shape = (self.out_features, self.in_features)
        weight_OI = torch.empty(shape, dtype=dtype, device=like.device)
        self.restore(weight_OI)
        return weight_OI

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., I] to [..., O]."""
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y


class _Product(torch.autograd.Function):
    """A product that keeps the layer and not its restored weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.dequantize(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.layer.dequantize(grad.dtype), None


class Int8Linear(QuantLinear):
    """Rows as int8, with the largest magnitude of each row.

    The weights of LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339), value for value; the
    products are in the precision of the inputs, so that outliers need no path of their own.
    """

    codes_OI: Tensor
    absmax_O: Tensor

    def __init__(self, weight_OI: Tensor, bias: nn.Parameter | None = None) -> None:
        super().__init__(weight_OI, bias)
        absmax_O = weight_OI.abs().amax(1).float()
        scale_O1 = (127.0 / absmax_O.clamp(min=torch.finfo(torch.float32).tiny))[:, None]
        self.register_buffer("codes_OI", (weight_OI * scale_O1).round().to(torch.int8))
        self.register_buffer("absmax_O", absmax_O)

    def restore(self, weight_OI: Tensor) -> None:
        """Put the weight into `weight_OI`."""
        torch.mul(self.codes_OI, (self.absmax_O / 127.0)[:, None], out=weight_OI)
