"""Attention over documents packed side by side, with no padding in the row and no mask over it.

Legend: T tokens of a packed row, P tokens of the bucketed layout (padding included), N documents in
a bucket, L their padded length, H query heads, G key/value heads, D head dimension.

A packed row holds several documents one after another; a token attends to the earlier tokens of
its own document and to nothing else. A block-diagonal mask would compute every pair of the whole
row (T²); here documents of similar length are gathered into small causal batches. Padding stands
at the end of a document, where the causal attention of real tokens never looks, so it changes
neither a result nor a gradient.

Plugged in through transformers' attention interface, so that every architecture that uses the
interface gains: `model.set_attn_implementation(PACKED)` and `packing=Packing.of(lengths)` as a
keyword of `forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

PACKED = "tongwen_packed"
# Documents whose lengths round up to the same multiple share a bucket of that width; products of
# odd widths are up to half slower.
ROUND = 128


@dataclass(frozen=True)
class Packing:
    """Where the documents of a packed row lie, and in which buckets they attend."""

    shapes: tuple[tuple[int, int], ...]  # (N, L) of each bucket, in the order of the layout
    row_P: Tensor  # for each place of the layout, its token in the row (padding: token 0)
    place_T: Tensor  # for each token of the row, its place in the layout

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
        return cls(tuple(shapes), torch.from_numpy(np.concatenate(rows)), torch.from_numpy(place_T))


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
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packing: Packing | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document. Query [1, H, T, D] in, [1, T, H, D] out."""
    assert packing is not None, "packed attention needs the packing of the row"
    assert dropout == 0.0, "packed attention has no dropout"
    layout = [
        _ToLayout.apply(  # type: ignore[no-untyped-call]
            x[0].transpose(0, 1), packing.row_P, packing.place_T
        )
        for x in (query, key, value)
    ]
    sizes = [n * length for n, length in packing.shapes]
    outputs = []
    buckets = zip(packing.shapes, *(x.split(sizes) for x in layout), strict=True)
    for shape, *parts in buckets:
        q, k, v = (part.unflatten(0, shape).transpose(1, 2) for part in parts)
        out_NHLD = _causal(q, k, v, scaling)
        outputs.append(out_NHLD.transpose(1, 2).flatten(0, 1))
    row_THD = _ToRow.apply(torch.cat(outputs), packing.place_T)  # type: ignore[no-untyped-call]
    return row_THD[None], None


def _causal(q_NHLD: Tensor, k_NGLD: Tensor, v_NGLD: Tensor, scaling: float | None) -> Tensor:
    """Causal attention of a bucket."""
    if q_NHLD.device.type != "cpu" or q_NHLD.dtype == torch.float32:
        return F.scaled_dot_product_attention(
            q_NHLD, k_NGLD, v_NGLD, is_causal=True, scale=scaling,
            enable_gqa=q_NHLD.shape[1] != k_NGLD.shape[1],
        )  # fmt: skip
    # On a CPU the fused kernel is slower in bf16 than in fp32 and 1.7 to 5 times slower than two
    # batched matrix products (docs/log.md, 2026-11-21).
    groups = q_NHLD.shape[1] // k_NGLD.shape[1]
    k, v = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (k_NGLD, v_NGLD))
    scale = q_NHLD.shape[-1] ** -0.5 if scaling is None else scaling
    length = q_NHLD.shape[2]
    future_LL = torch.full((length, length), float("-inf"), dtype=q_NHLD.dtype).triu(1)
    score_BLL = torch.baddbmm(
        future_LL, q_NHLD.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=scale
    )
    share_BLL = torch.softmax(score_BLL, dim=-1, dtype=torch.float32).to(v.dtype)
    out_BLD = torch.bmm(share_BLL, v.flatten(0, 1))
    return out_BLD.view(q_NHLD.shape)


AttentionInterface.register(PACKED, packed_attention)
