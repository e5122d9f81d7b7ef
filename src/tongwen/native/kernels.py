"""The C++ kernels as functions of tensors.

Legend: T tokens of a row, H width, F width of the gated layer, C positions of a chunk, V
vocabulary, M documents, D width of a head.

All tensors are contiguous, on the CPU, and in fp32 or bf16. Functions that write in place say so.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tongwen.native.build import CannotBuild, load_library
from tongwen.progress import say

DTYPES = (torch.float32, torch.bfloat16)
HEAD_MULTIPLE = 16
_POINTER, _SIZE, _FLOAT, _FLAG = (
    ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int,
)  # fmt: skip
_ATTENTION = [_FLAG, _SIZE, _POINTER, *[_SIZE] * 6, _FLOAT]
_SIGNATURES = {
    "attention_forward": [*_ATTENTION, *[_POINTER] * 5],
    "attention_backward": [*_ATTENTION, *[_POINTER] * 9],
    "rms_norm": [_FLAG, _SIZE, _SIZE, *[_POINTER] * 3, _FLOAT, _POINTER],
    "rms_norm_backward": [_FLAG, _SIZE, _SIZE, *[_POINTER] * 2, _FLOAT, *[_POINTER] * 4],
    "rotary": [_FLAG, *[_SIZE] * 4, *[_POINTER] * 3, _FLOAT],
    "swiglu": [_FLAG, _SIZE, _SIZE, *[_POINTER] * 2],
    "swiglu_backward": [_FLAG, _SIZE, _SIZE, *[_POINTER] * 2],
    "dequantize_4bit": [_FLAG, _SIZE, *[_POINTER] * 4],
    "add": [_FLAG, _SIZE, *[_POINTER] * 2],
    "cross_entropy": [_FLAG, _SIZE, _SIZE, *[_POINTER] * 4],
    "drop": [_FLAG, _FLAG, _SIZE, _SIZE, *[_POINTER] * 3, _SIZE, _FLOAT, *[_POINTER] * 2],
}


@dataclass(frozen=True)
class Heads:
    """How the heads of attention lie in a row: query heads, key/value heads, width, scale."""

    query: int
    groups: int
    width: int
    scale: float


@dataclass(frozen=True)
class Mask:
    """Which numbers of [T, I] are dropped: where factor · column + summand, as int64, is below."""

    factor_T1: Tensor  # int64
    summand_T1: Tensor  # int64
    column_I: Tensor  # int64
    least: int
    scale: float
    """By what the others are multiplied."""


class Kernels:
    """What stands between the matrix products of a decoder layer."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name, types in _SIGNATURES.items():
            getattr(library, name).argtypes = types
            getattr(library, name).restype = None

    def attention(
        self, heads: Heads, begin_M1: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Causal attention inside documents: output [T, heads·D] and log-sums [heads, T].

        q, k and v are [T, heads·D] with any stride between tokens; `begin_M1` holds the first
        token of each document and the end of the last.
        """
        out = q.new_empty(len(q), heads.query * heads.width)
        log_total = torch.empty(heads.query, len(q), dtype=torch.float32)
        self._library.attention_forward(
            *self._attention(heads, begin_M1, q, k, v), *_pointers(q, k, v, out, log_total)
        )
        return out, log_total

    def attention_backward(
        self,
        heads: Heads,
        begin_M1: Tensor,
        qkv: tuple[Tensor, Tensor, Tensor],
        out: Tensor,
        dout: Tensor,
        log_total: Tensor,
    ) -> None:
        """Replace q, k and v by their gradients."""
        assert out.is_contiguous()
        assert dout.is_contiguous()
        self._library.attention_backward(
            *self._attention(heads, begin_M1, *qkv), *_pointers(*qkv, out, dout, log_total, *qkv)
        )

    @staticmethod
    def _attention(
        heads: Heads, begin_M1: Tensor, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[object, ...]:
        assert k.stride() == v.stride()
        assert q.stride(1) == k.stride(1) == 1
        assert begin_M1.dtype == torch.int64
        assert heads.width % HEAD_MULTIPLE == 0
        strides = (q.stride(0), k.stride(0), heads.query * heads.width)
        shape = (heads.query, heads.groups, heads.width)
        return (
            _is_bf16(q), len(begin_M1) - 1, begin_M1.data_ptr(), *shape, *strides, heads.scale,
        )  # fmt: skip

    def rms_norm(
        self, x_TH: Tensor, weight_H: Tensor, eps: float, residual_TH: Tensor | None = None
    ) -> Tensor:
        """`x_TH += residual_TH` in place, where there is one; returns x / rms(x) * weight."""
        y_TH = torch.empty_like(x_TH)
        self._library.rms_norm(
            _is_bf16(x_TH), *x_TH.shape, *_pointers(x_TH, residual_TH, weight_H), eps,
            y_TH.data_ptr(),
        )  # fmt: skip
        return y_TH

    def rms_norm_backward(
        self,
        x_TH: Tensor,
        weight_H: Tensor,
        eps: float,
        dy_TH: Tensor,
        residual_TH: Tensor | None,
        dweight_H: Tensor | None,
    ) -> Tensor:
        """Gradient of x through the norm, plus that of the residual way around it, if any.

        Puts the normalised values where their gradient `dy_TH` was, and the fp32 gradient of the
        weight into `dweight_H` where it is given.
        """
        dx_TH = torch.empty_like(x_TH)
        self._library.rms_norm_backward(
            _is_bf16(x_TH), *x_TH.shape, *_pointers(x_TH, weight_H), eps,
            *_pointers(dy_TH, residual_TH, dx_TH, dweight_H),
        )  # fmt: skip
        return dx_TH

    def rotary(
        self, x: Tensor, heads: int, cos: Tensor, sin: Tensor, *, back: bool = False
    ) -> None:
        """Turn the first `heads` heads of each token by its angles [T, D/2], or back, in place."""
        tokens, half = cos.shape
        self._library.rotary(
            _is_bf16(x), tokens, heads, 2 * half, x.stride(0), *_pointers(x, cos, sin),
            -1.0 if back else 1.0,
        )  # fmt: skip

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up, for gate and up side by side in [T, 2F]."""
        tokens, width = gate_up.shape[0], gate_up.shape[1] // 2
        act_TF = gate_up.new_empty(tokens, width)
        self._library.swiglu(_is_bf16(gate_up), tokens, width, *_pointers(gate_up, act_TF))
        return act_TF

    def swiglu_backward(self, gate_up: Tensor, act_TF: Tensor) -> None:
        """Replace gate and up by their gradients, and the gradient in `act_TF` by its value."""
        self._library.swiglu_backward(_is_bf16(act_TF), *act_TF.shape, *_pointers(gate_up, act_TF))

    def cross_entropy(
        self, logits_CV: Tensor, target_C: Tensor, weight_C: Tensor | None = None
    ) -> Tensor:
        """-log softmax at the targets [C], fp32.

        With weights, the logits are replaced by the gradient of the weighted sum.
        """
        loss_C = torch.empty(len(target_C), dtype=torch.float32)
        self._library.cross_entropy(
            _is_bf16(logits_CV), *logits_CV.shape, *_pointers(logits_CV, target_C, weight_C, loss_C)
        )
        return loss_C

    def drop(self, x_TI: Tensor, mask: Mask) -> Tensor:
        """What a mask leaves of `x_TI`."""
        y_TI = torch.empty_like(x_TI)
        self._drop(x_TI, mask, y_TI, add=False)
        return y_TI

    def add_dropped(self, total_TI: Tensor, x_TI: Tensor, mask: Mask) -> None:
        """`total_TI` += what a mask leaves of `x_TI`, in place."""
        self._drop(x_TI, mask, total_TI, add=True)

    def _drop(self, x_TI: Tensor, mask: Mask, y_TI: Tensor, *, add: bool) -> None:
        assert x_TI.is_contiguous()
        assert y_TI.is_contiguous()
        assert x_TI.shape == y_TI.shape == (len(mask.factor_T1), len(mask.column_I))
        self._library.drop(
            _is_bf16(x_TI), add, *x_TI.shape,
            *_pointers(mask.factor_T1, mask.summand_T1, mask.column_I), mask.least, mask.scale,
            *_pointers(x_TI, y_TI),
        )  # fmt: skip

    def add(self, total: Tensor, part: Tensor) -> None:
        """`total += part`, in place; `total` is fp32."""
        assert total.dtype == torch.float32
        assert total.shape == part.shape
        assert total.is_contiguous()
        assert part.is_contiguous()
        self._library.add(_is_bf16(part), part.numel(), *_pointers(total, part))

    def dequantize_4bit(
        self, codes: Tensor, scale_N: Tensor, values: Tensor, weight: Tensor
    ) -> None:
        """Fill `weight` from codes (uint8, two a byte, the first one above).

        A code stands for one of 16 `values` (fp32), times the scale (fp32) of its block of 64.
        """
        assert codes.is_contiguous()
        assert weight.is_contiguous()
        assert weight.numel() == 2 * codes.numel()
        self._library.dequantize_4bit(
            _is_bf16(weight), len(scale_N), *_pointers(codes, scale_N, values, weight)
        )


def add_in_place(total: Tensor, part: Tensor) -> None:
    """`total += part`, where the total is fp32 and the part in any precision, on any device."""
    if part.device.type == "cpu" and part.dtype in DTYPES and part.is_contiguous():
        compiled = kernels()
        if compiled is not None:
            compiled.add(total, part)
            return
    total += part


@cache
def kernels() -> Kernels | None:
    """The kernels for this machine; None, and said once, where they cannot be compiled."""
    try:
        return Kernels(load_library())
    except CannotBuild as reason:
        say(f"{reason}; training takes the slower path of plain torch")
        return None


def _is_bf16(x: Tensor) -> int:
    assert x.dtype in DTYPES
    assert x.device.type == "cpu"
    return int(x.dtype == torch.bfloat16)


def _pointers(*tensors: Tensor | None) -> tuple[int | None, ...]:
    return tuple(None if x is None else x.data_ptr() for x in tensors)
