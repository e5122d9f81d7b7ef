"""NF4: weights in 4 bits, at the quantiles of a normal distribution (QLoRA, arXiv:2305.14314).

A block of 64 weights, counted along the rows, is divided by its largest magnitude, and each weight
becomes the nearest of 16 values. The largest magnitudes are stored in 8 bits themselves (double
quantisation): less their mean, in blocks of 256, each divided by its own largest magnitude and
rounded to the nearest of 256 values (dynamic quantisation, Dettmers 2015, arXiv:1511.04561). That
makes 4.127 bits a weight. Codes and restored values are those of bitsandbytes, to the bit.

Legend: O outputs, I inputs, N blocks of 64 weights, G groups of 256 blocks.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from tongwen.errors import ModelError
from tongwen.models.quantized import QuantLinear
from tongwen.native import DTYPES, kernels

BLOCK, GROUP = 64, 256
# Weights that are worked on together, so that quantising takes little memory beside the weight.
CHUNK = 2**22
# Appendix E of QLoRA.
VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class NF4Linear(QuantLinear):
    """A linear layer in NF4 with double quantisation: two weights a byte, the first one above."""

    codes_OI: Tensor  # uint8 [O, I/2]
    absmax_N: Tensor  # uint8
    group_absmax_G: Tensor  # fp32
    offset: Tensor  # fp32, one number

    def __init__(self, weight_OI: Tensor, bias: nn.Parameter | None = None) -> None:
        super().__init__(weight_OI, bias)
        if weight_OI.numel() % BLOCK or weight_OI.shape[1] % 2:
            raise ModelError(
                f"a layer of {self.out_features} by {self.in_features} weights has no whole blocks "
                f"of {BLOCK}, and cannot be stored as NF4",
                "give `--quant int8`",
            )
        parts = weight_OI.flatten().split(CHUNK)
        codes, absmaxes = zip(*(_quantize(part.float()) for part in parts), strict=True)
        absmax_N = torch.cat(absmaxes)
        offset = absmax_N.mean()
        absmax_codes_N, group_absmax_G = _quantize_absmax(absmax_N - offset)
        self.register_buffer("codes_OI", torch.cat(codes).view(self.out_features, -1))
        self.register_buffer("absmax_N", absmax_codes_N)
        self.register_buffer("group_absmax_G", group_absmax_G)
        self.register_buffer("offset", offset)

    def absmax(self) -> Tensor:
        """The largest magnitude of every block, fp32 [N]."""
        values_N = _dynamic_values_on(self.absmax_N.device)[self.absmax_N.int()]
        groups_N = self.group_absmax_G.repeat_interleave(GROUP)[: len(values_N)]
        return values_N * groups_N + self.offset

    def restore(self, weight_OI: Tensor) -> None:
        """Put the weight into `weight_OI`."""
        on_cpu = weight_OI.device.type == "cpu" and weight_OI.dtype in DTYPES
        if on_cpu and (compiled := kernels()) is not None:
            values = torch.tensor(VALUES)
            compiled.dequantize_4bit(self.codes_OI, self.absmax(), values, weight_OI)
            return
        pairs = _pairs(self.codes_OI.device).index_select(0, self.codes_OI.flatten().int())
        weight_NB = pairs.view(-1, BLOCK).mul_(self.absmax()[:, None])
        weight_OI.copy_(weight_NB.view(weight_OI.shape))


def _quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes of two codes, and the largest magnitude of every block."""
    block_NB = weight.view(-1, BLOCK)
    absmax_N = block_NB.abs().amax(1)
    codes = _nearest(block_NB, absmax_N, torch.tensor(VALUES, device=weight.device)).flatten()
    return (codes[::2] << 4) | codes[1::2], absmax_N


def _quantize_absmax(centred_N: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of the largest magnitudes, and the largest magnitude of every group of them."""
    groups = -(-len(centred_N) // GROUP)
    padded_GB = centred_N.new_zeros(groups * GROUP)
    padded_GB[: len(centred_N)] = centred_N
    absmax_G = padded_GB.view(groups, GROUP).abs().amax(1)
    values = dynamic_values().to(centred_N.device)
    codes = _nearest(padded_GB.view(groups, GROUP), absmax_G, values)
    return codes.flatten()[: len(centred_N)].clone(), absmax_G


def _nearest(block_NB: Tensor, absmax_N: Tensor, values: Tensor) -> Tensor:
    """For each number over the largest of its block, the place of the nearest value, uint8."""
    inverse_N1 = (1.0 / absmax_N.clamp(min=1e-38))[:, None]
    scaled_NB = (block_NB * inverse_N1).clamp_(-1, 1)
    middles = (values[:-1] + values[1:]) / 2
    return torch.bucketize(scaled_NB, middles, out_int32=True).to(torch.uint8)


@cache
def _pairs(device: torch.device) -> Tensor:
    """The two values that a byte stands for, fp32 [256, 2]."""
    values = torch.tensor(VALUES)
    return torch.cartesian_prod(values, values).to(device)


@cache
def _dynamic_values_on(device: torch.device) -> Tensor:
    return dynamic_values().to(device)


@cache
def dynamic_values() -> Tensor:
    """The 256 values of the 8-bit code: a sign, a power of ten by its length, and a fraction."""
    values = [0.0, 1.0]
    for exponent in range(7):
        ends = torch.linspace(0.1, 1.0, 2**exponent + 1, dtype=torch.float32)
        means = (ends[:-1] + ends[1:]) / 2.0
        positive = (10 ** (exponent - 6) * means).tolist()
        values += [*positive, *(-value for value in positive)]
    return torch.tensor(sorted(values), dtype=torch.float32)
