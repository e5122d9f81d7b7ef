"""LoRA: a linear layer that stays as it is, and a product of two small matrices that learns.

    y = W x + s · B A x        (Hu et al. 2021, arXiv:2106.09685)

s is alpha/r, or alpha/√r for rsLoRA (Kalajdzievski 2023, arXiv:2312.03732). DoRA (Liu et al. 2024,
arXiv:2402.09353) gives every row of W + s·B A a length m that learns apart:

    y = m / ‖W + s · B A‖ · (W x + s · B A x)

whose norm is taken as a constant in the backward pass (section 4.3 there). Dropout is on the x of
B A alone.

Legend: O outputs, I inputs, R rank.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tongwen.models.draws import Draws, columns, generator
from tongwen.models.quantized import QuantLinear
from tongwen.native import Mask

Frozen = nn.Linear | QuantLinear


class LoraLinear(nn.Module):
    """A frozen linear layer `base`, with `lora_A` [R, I] and `lora_B` [O, R] that learn."""

    columns_I: Tensor
    magnitude: nn.Parameter | None
    """DoRA's length of every row, [O]."""

    def __init__(self, base: Frozen, r: int, scaling: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling = scaling
        self.dropout = 0.0
        device = next(base.buffers() if isinstance(base, QuantLinear) else base.parameters()).device
        self.lora_A = nn.Parameter(torch.zeros(r, base.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, r, device=device))
        self.register_parameter("magnitude", None)
        self._draws: Draws | None = None

    def begin(self, name: str, seed: int) -> None:
        """Draw the first A as PEFT does, uniform up to ±1/√I; B begins as zeros."""
        bound = 1.0 / math.sqrt(self.base.in_features)
        first_RI = torch.empty(self.lora_A.shape).uniform_(
            -bound, bound, generator=generator(seed, f"{name}.lora_A")
        )
        self.lora_A.data = first_RI.to(self.lora_A.device)

    def set_dropout(self, share: float, name: str, draws: Draws) -> None:
        """Drop a share of the inputs of A in training, by masks of this layer's own."""
        self.dropout = share
        self._draws = draws
        columns_I = columns(name, self.base.in_features).to(self.lora_A.device)
        self.register_buffer("columns_I", columns_I, persistent=False)

    def mask(self) -> Mask | None:
        """What is dropped of the inputs of A at this moment."""
        return None if self._draws is None else self._draws.mask(self.dropout, self.columns_I)

    def learn_magnitude(self) -> None:
        """Make it DoRA, with the lengths that the rows have now."""
        self.magnitude = nn.Parameter(self._norm())

    def forward(self, x: Tensor) -> Tensor:
        """`x` [..., I] to [..., O]."""
        y: Tensor = self.base(x)
        inner = x if self._draws is None else self._draws.dropout(x, self.dropout, self.columns_I)
        added = F.linear(F.linear(inner, self.lora_A) * self.scaling, self.lora_B)
        if self.magnitude is None:
            return y + added
        stretch_O: Tensor = (self.magnitude / self._norm()).to(x.dtype)
        if self.base.bias is None:
            return stretch_O * (y + added)
        return stretch_O * (y - self.base.bias + added) + self.base.bias

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """The fp32 weight [O, I] of one linear layer that does the same."""
        summed_OI = self._sum()
        if self.magnitude is None:
            return summed_OI
        return summed_OI * (self.magnitude.float() / self._norm())[:, None]

    @torch.no_grad()
    def _norm(self) -> Tensor:
        norm_O: Tensor = torch.linalg.vector_norm(self._sum(), dim=1)
        return norm_O

    def _sum(self) -> Tensor:
        """W + s · B A, fp32 [O, I]."""
        return frozen_weight(self.base).addmm(
            self.lora_B.float(), self.lora_A.float(), alpha=self.scaling
        )


def frozen_weight(layer: Frozen) -> Tensor:
    """The weight of a linear layer as fp32 [O, I]."""
    if isinstance(layer, QuantLinear):
        return layer.dequantize(torch.float32)
    return layer.weight.detach().float()
