"""Attention over documents packed side by side, with no padding in the row and no mask over it.

Legend: T tokens of a packed row, P tokens of the bucketed layout (padding included), N documents in
a bucket, L their padded length, H query heads, G key/value heads, D head dimension.

A packed row holds several documents one after another; a token attends to the earlier tokens of
its own document and to nothing else. A block-diagonal mask would compute every pair of the whole
row (T²). Here every document is attended to alone: by FlashAttention over variable lengths on a
card, by a C++ kernel on a CPU (`tongwen.native`), and elsewhere in small causal batches of
documents of similar length. Padding stands at the end of a document there, where the causal
attention of real tokens never looks, so it changes neither a result nor a gradient.

Plugged in through transformers' attention interface, so that every architecture that uses the
interface gains: `model.set_attn_implementation(PACKED)` and `packing=Packing.of(lengths)` as a
keyword of `forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from tongwen.models.device import capability, moved
from tongwen.native import DTYPES, HEAD_MULTIPLE, Heads, kernels

PACKED = "tongwen_packed"
# Documents whose lengths round up to the same multiple share a bucket of that width.
ROUND = 128
# Wider heads have no backward pass on every card.
WIDEST = 192


@dataclass(frozen=True)
class Packing:
    """Where the documents of a packed row lie, and in which buckets they attend."""

    shapes: tuple[tuple[int, int], ...]  # (N, L) of each bucket, in the order of the layout
    row_P: Tensor  # for each place of the layout, its token in the row (padding: token 0)
    place_T: Tensor  # for each token of the row, its place in the layout
    begin_M1: Tensor  # first token of each document, and the end of the last
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Packing:
        """Packing of documents with these lengths, standing in the row in this order."""
        length_M = np.asarray(lengths, dtype=np.int64)
        begin_M = np.cumsum(length_M) - length_M
        bucket_M = -(-length_M // ROUND)
        shapes, rows = [], []
        place_T = np.empty(int(length_M.sum()), dtype=np.int64)
        size = 0
        for bucket in np.unique(bucket_M):
            members = np.flatnonzero(bucket_M == bucket)
            width = int(bucket) * ROUND
            offset_L = np.arange(width)
            token_NL = begin_M[members, None] + offset_L
            real_NL = offset_L < length_M[members, None]
            place_T[token_NL[real_NL]] = size + np.flatnonzero(real_NL)
            rows.append(np.where(real_NL, token_NL, 0).ravel())
            shapes.append((len(members), width))
            size += real_NL.size
        return cls(
            tuple(shapes),
            torch.from_numpy(np.concatenate(rows)),
            torch.from_numpy(place_T),
            torch.from_numpy(np.append(begin_M, length_M.sum())),
            int(length_M.max()),
        )

    def to(self, device: torch.device) -> Packing:
        """The same on a device."""
        return replace(
            self,
            row_P=moved(self.row_P, device),
            place_T=moved(self.place_T, device),
            begin_M1=moved(self.begin_M1, device),
        )


class _ToLayout(torch.autograd.Function):
    """Tokens of the row → places of the layout. Padding has no gradient: the way back is exact."""

    @staticmethod
    def forward(ctx: Any, x_THD: Tensor, row_P: Tensor, place_T: Tensor) -> Tensor:
        ctx.save_for_backward(place_T)
        return x_THD.index_select(0, row_P)

    @staticmethod
    def backward(ctx: Any, grad_PHD: Tensor) -> tuple[Tensor, None, None]:
        (place_T,) = ctx.saved_tensors
        return grad_PHD.index_select(0, place_T), None, None


class _ToRow(torch.autograd.Function):
    """Places of the layout → tokens of the row; padding is left behind."""

    @staticmethod
    def forward(ctx: Any, x_PHD: Tensor, place_T: Tensor) -> Tensor:
        ctx.save_for_backward(place_T)
        ctx.places = len(x_PHD)
        return x_PHD.index_select(0, place_T)

    @staticmethod
    def backward(ctx: Any, grad_THD: Tensor) -> tuple[Tensor, None]:
        (place_T,) = ctx.saved_tensors
        grad_PHD = grad_THD.new_zeros(ctx.places, *grad_THD.shape[1:])
        return grad_PHD.index_copy_(0, place_T, grad_THD), None


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document. Query [1, H, T, D] in, [1, T, H, D] out.

    With a sliding window, a token sees itself and the `sliding_window` - 1 tokens before it.
    """
    assert packing is not None, "packed attention needs the packing of the row"
    assert dropout == 0.0, "packed attention has no dropout"
    if (prefix := getattr(module, "prefix", None)) is not None:
        return prefix.packed(query, key, value, packing, scaling), None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q_THD, k_TGD, v_TGD = (x[0].transpose(0, 1) for x in (query, key, value))
    # A window that no document outgrows is no window.
    window = sliding_window if sliding_window and packing.longest > sliding_window else None
    if _has_flash(query):
        out_THD = _on_card(q_THD, k_TGD, v_TGD, packing, scale, window)
    elif window is None and _has_kernel(query):
        out_THD = _Kernel.apply(q_THD, k_TGD, v_TGD, packing.begin_M1, scale)  # type: ignore[no-untyped-call]
    else:
        out_THD = _in_buckets(q_THD, k_TGD, v_TGD, packing, scale, window)
    return out_THD[None], None


def _has_flash(x: Tensor) -> bool:
    """Whether torch's FlashAttention takes these heads, on this card, back and forth."""
    fits = x.dtype != torch.float32 and x.shape[-1] % 8 == 0 and x.shape[-1] <= WIDEST
    return x.device.type == "cuda" and fits and capability(x.device) >= (8, 0)


def _on_card(
    q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, packing: Packing, scale: float, window: int | None
) -> Tensor:
    """FlashAttention over documents of any lengths, as torch has it on CUDA."""
    begin_M1 = packing.begin_M1.to(q_THD.device, torch.int32)
    out_THD = varlen_attn(
        q_THD, k_TGD, v_TGD, begin_M1, begin_M1, packing.longest, packing.longest,
        scale=scale, window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q_THD.shape[1] != k_TGD.shape[1],
    )  # fmt: skip
    assert isinstance(out_THD, Tensor)
    return out_THD


def _has_kernel(x: Tensor) -> bool:
    fits = x.device.type == "cpu" and x.dtype in DTYPES and x.shape[-1] % HEAD_MULTIPLE == 0
    return fits and kernels() is not None


class _Kernel(torch.autograd.Function):
    """The C++ kernel over documents of any lengths."""

    @staticmethod
    def forward(
        ctx: Any, q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, begin_M1: Tensor, scale: float
    ) -> Tensor:
        compiled = kernels()
        assert compiled is not None
        heads = Heads(q_THD.shape[1], k_TGD.shape[1], q_THD.shape[2], scale)
        rows = [x.flatten(1) for x in (q_THD, k_TGD, v_TGD)]
        out, log_total = compiled.attention(heads, begin_M1, *rows)
        ctx.save_for_backward(*rows, out, log_total, begin_M1)
        ctx.heads, ctx.compiled = heads, compiled
        return out.view(q_THD.shape)

    @staticmethod
    def backward(ctx: Any, dout_THD: Tensor) -> tuple[Tensor | None, ...]:
        *rows, out, log_total, begin_M1 = ctx.saved_tensors
        q, k, v = (x.clone() for x in rows)
        dout = dout_THD.flatten(1).contiguous()
        ctx.compiled.attention_backward(ctx.heads, begin_M1, (q, k, v), out, dout, log_total)
        return (*(x.unflatten(1, (-1, ctx.heads.width)) for x in (q, k, v)), None, None)


def _in_buckets(
    q_THD: Tensor, k_TGD: Tensor, v_TGD: Tensor, packing: Packing, scale: float, window: int | None
) -> Tensor:
    """Documents of similar length in causal batches; for every device and dtype."""
    layout = [
        _ToLayout.apply(x, packing.row_P, packing.place_T)  # type: ignore[no-untyped-call]
        for x in (q_THD, k_TGD, v_TGD)
    ]
    sizes = [n * length for n, length in packing.shapes]
    outputs = []
    buckets = zip(packing.shapes, *(x.split(sizes) for x in layout), strict=True)
    for shape, *parts in buckets:
        q, k, v = (part.unflatten(0, shape).transpose(1, 2) for part in parts)
        outputs.append(_causal(q, k, v, scale, window).transpose(1, 2).flatten(0, 1))
    row_THD: Tensor = _ToRow.apply(  # type: ignore[no-untyped-call]
        torch.cat(outputs), packing.place_T
    )
    return row_THD


def _causal(
    q_NHLD: Tensor, k_NGLD: Tensor, v_NGLD: Tensor, scale: float, window: int | None
) -> Tensor:
    """Causal attention of a bucket; on a CPU in fp32, in which torch is faster than in bf16."""
    dtype = q_NHLD.dtype
    if q_NHLD.device.type == "cpu":
        q_NHLD, k_NGLD, v_NGLD = q_NHLD.float(), k_NGLD.float(), v_NGLD.float()
    else:
        # On a card only the attention that keeps all scores knows of groups of query heads.
        group = q_NHLD.shape[1] // k_NGLD.shape[1]
        if group > 1:
            k_NGLD, v_NGLD = (x.repeat_interleave(group, dim=1) for x in (k_NGLD, v_NGLD))
    length = q_NHLD.shape[2]
    near_LL = None
    if window is not None and length > window:
        near_LL = torch.ones(length, length, dtype=torch.bool, device=q_NHLD.device)
        near_LL = near_LL.tril_().triu_(1 - window)
    out_NHLD = F.scaled_dot_product_attention(
        q_NHLD, k_NGLD, v_NGLD, attn_mask=near_LL, is_causal=near_LL is None, scale=scale,
        enable_gqa=q_NHLD.shape[1] != k_NGLD.shape[1],
    )  # fmt: skip
    return out_NHLD.to(dtype)


AttentionInterface.register(PACKED, packed_attention)
