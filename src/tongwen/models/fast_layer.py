"""A LLaMA-shaped decoder layer with a backward pass written out by hand.

Legend: T tokens of a row, H hidden width, I inputs, O outputs, R rank.

Autograd keeps what every small operation needs and runs each over the whole row. Here the layer is
one operation: between its matrix products stand C++ kernels that read and write the row once, the
cheap values (normalised rows, gated activations) are computed again in the backward pass instead
of being kept, projections that share an input are one product, gradients replace in place what
they are the gradients of, and nothing is computed for a parameter that does not learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tongwen.models.lora import LoraLinear
from tongwen.models.quantized import QuantLinear
from tongwen.native import Heads, Kernels, Mask

Grads = dict[Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """What every layer needs to know about a packed row."""

    kernels: Kernels
    heads: Heads
    begin_M1: Tensor  # first token of each document, and the end of the last
    cos: Tensor  # [T, D/2], fp32
    sin: Tensor


class Projection:
    """Linear layers that share an input, as one product; LoRA and quantised weights included.

    What LoRA's dropout leaves out is decided here, and holds for both passes.
    """

    def __init__(self, kernels: Kernels, *modules: nn.Linear | QuantLinear | LoraLinear) -> None:
        self._kernels = kernels
        self._loras = [m if isinstance(m, LoraLinear) else None for m in modules]
        self._bases = [m.base if isinstance(m, LoraLinear) else m for m in modules]
        self._widths = [base.out_features for base in self._bases]
        self._adapters = [(lora, lora.mask()) for lora in self._loras if lora is not None]
        self._drops = any(mask is not None for _, mask in self._adapters)

    def learning(self) -> Iterable[nn.Parameter]:
        """The parameters that learn."""
        for base, lora in zip(self._bases, self._loras, strict=True):
            yield from (p for p in base.parameters() if p.requires_grad)
            if lora is not None:
                yield from (p for p in (lora.lora_A, lora.lora_B) if p.requires_grad)

    def forward(self, x_TI: Tensor) -> tuple[Tensor, Tensor | None]:
        """The outputs side by side [T, O], and what LoRA made of the input [T, R]."""
        weight_OI = self._weight(x_TI.dtype)
        bias_O = self._bias(x_TI)
        if bias_O is None:
            y_TO = torch.mm(x_TI, weight_OI.t())
        else:
            y_TO = torch.addmm(bias_O, x_TI, weight_OI.t())
        if not self._adapters:
            return y_TO, None
        inner_TR = self._inner(x_TI)
        y_TO.addmm_(inner_TR, self._lora_b().t())
        return y_TO, inner_TR

    def input_gradient(self, dy_TO: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradients of the input [T, I], and of what LoRA made of it [T, R]."""
        dx_TI = torch.mm(dy_TO, self._weight(dy_TO.dtype))
        if not self._adapters:
            return dx_TI, None
        dinner_TR = dy_TO @ self._lora_b()
        self._add_input_gradient(dx_TI, dinner_TR)
        return dx_TI, dinner_TR

    def gradients(
        self,
        dy_TO: Tensor,
        x_TI: Tensor,
        inner_TR: Tensor | None,
        dinner_TR: Tensor | None,
        grads: Grads,
    ) -> None:
        """Gradients of what learns."""
        self._base_gradients(dy_TO, x_TI, grads)
        if inner_TR is not None and dinner_TR is not None:
            self._lora_gradients(inner_TR.t() @ dy_TO, self._gradient_a(dinner_TR, x_TI), grads)

    def _base_gradients(self, dy_TO: Tensor, x_TI: Tensor, grads: Grads) -> None:
        parts = dy_TO.split(self._widths, dim=1)
        weights = [base.weight for base in self._bases if isinstance(base, nn.Linear)]
        if len(weights) == len(parts) and all(weight.requires_grad for weight in weights):
            together_OI = torch.mm(dy_TO.t(), x_TI)
            grads.update(zip(weights, together_OI.split(self._widths), strict=True))
        for base, part in zip(self._bases, parts, strict=True):
            weight = base.weight if isinstance(base, nn.Linear) else None
            if weight is not None and weight.requires_grad and weight not in grads:
                grads[weight] = torch.mm(part.t(), x_TI)
            if base.bias is not None and base.bias.requires_grad:
                grads[base.bias] = part.sum(0)

    def _lora_gradients(self, db_RO: Tensor, da_RI: Tensor, grads: Grads) -> None:
        row = rank = 0
        for lora, width in zip(self._loras, self._widths, strict=True):
            outputs = slice(row, row := row + width)
            if lora is None:
                continue
            mine = slice(rank, rank := rank + len(lora.lora_A))
            if lora.lora_A.requires_grad:
                grads[lora.lora_A] = da_RI[mine]
            if lora.lora_B.requires_grad:
                grads[lora.lora_B] = db_RO[mine, outputs].t() * lora.scaling

    def _weight(self, dtype: torch.dtype) -> Tensor:
        linear = [base for base in self._bases if isinstance(base, nn.Linear)]
        if len(linear) == len(self._bases):
            return side_by_side([base.weight for base in linear])
        weight_OI = torch.empty(sum(self._widths), self._bases[0].in_features, dtype=dtype)
        for base, rows in zip(self._bases, weight_OI.split(self._widths), strict=True):
            if isinstance(base, QuantLinear):
                base.restore(rows)
            else:
                rows.copy_(base.weight.detach())
        return weight_OI

    def _bias(self, x: Tensor) -> Tensor | None:
        biases = [base.bias for base in self._bases]
        if all(bias is None for bias in biases):
            return None
        pairs = zip(biases, self._widths, strict=True)
        return torch.cat([x.new_zeros(n) if b is None else b.detach() for b, n in pairs])

    def _inner(self, x_TI: Tensor) -> Tensor:
        """What LoRA makes of the input, [T, R]."""
        if not self._drops:
            return x_TI @ self._lora_a().t()
        parts = [self._left(x_TI, mask) @ lora.lora_A.detach().t() for lora, mask in self._adapters]
        return torch.cat(parts, dim=1)

    def _add_input_gradient(self, dx_TI: Tensor, dinner_TR: Tensor) -> None:
        """Add what comes back through LoRA to the gradient of the input, in place."""
        if not self._drops:
            dx_TI.addmm_(dinner_TR, self._lora_a())
            return
        for (lora, mask), part_TR in zip(self._adapters, self._by_rank(dinner_TR), strict=True):
            if mask is None:
                dx_TI.addmm_(part_TR, lora.lora_A.detach())
            else:
                self._kernels.add_dropped(dx_TI, part_TR @ lora.lora_A.detach(), mask)

    def _gradient_a(self, dinner_TR: Tensor, x_TI: Tensor) -> Tensor:
        """The gradients of all A, [R, I]."""
        if not self._drops:
            return dinner_TR.t() @ x_TI
        parts = zip(self._adapters, self._by_rank(dinner_TR), strict=True)
        return torch.cat([part_TR.t() @ self._left(x_TI, mask) for (_, mask), part_TR in parts])

    def _left(self, x_TI: Tensor, mask: Mask | None) -> Tensor:
        return x_TI if mask is None else self._kernels.drop(x_TI, mask)

    def _by_rank(self, x_TR: Tensor) -> Sequence[Tensor]:
        return torch.split(x_TR, [len(lora.lora_A) for lora, _ in self._adapters], dim=1)

    def _lora_a(self) -> Tensor:
        return torch.cat([lora.lora_A.detach() for lora, _ in self._adapters])

    def _lora_b(self) -> Tensor:
        """Scaled, each in the rows of its output and the columns of its rank: [O, R]."""
        first = self._adapters[0][0].lora_B
        ranks = sum(len(lora.lora_A) for lora, _ in self._adapters)
        b_OR = first.new_zeros(sum(self._widths), ranks)
        row = rank = 0
        for lora, width in zip(self._loras, self._widths, strict=True):
            if lora is not None:
                mine = slice(rank, rank := rank + len(lora.lora_A))
                torch.mul(lora.lora_B.detach(), lora.scaling, out=b_OR[row : row + width, mine])
            row += width
        return b_OR


def side_by_side(parameters: Sequence[Tensor]) -> Tensor:
    """Matrices of equal width as one, [O, I], without a copy.

    The first time, they move into one storage; their names, shapes and gradients stay their own.
    """
    first = parameters[0].detach()
    if len(parameters) == 1:
        return first
    width, begin, size = first.shape[1], first.data_ptr(), first.element_size()
    row = 0
    for parameter in parameters:
        # Two storages may happen to lie one behind the other.
        alone = parameter.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
        if alone or parameter.data_ptr() != begin + row * width * size:
            break
        row += len(parameter)
    else:
        return first.as_strided((row, width), (width, 1))
    # An evaluation may be the first to ask, and training must be able to keep them nevertheless.
    with torch.inference_mode(mode=False):
        joined = torch.cat([parameter.detach() for parameter in parameters])
        pieces = joined.split([len(parameter) for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.data = piece
    return joined


@dataclass(frozen=True)
class Layer:
    """The parts of a decoder layer."""

    norm_in: nn.Parameter
    norm_mid: nn.Parameter
    norm_heads: tuple[nn.Parameter, ...]
    """Of queries and of keys, head by head, where the model has them."""
    eps: float
    qkv: Projection
    out: Projection
    gate_up: Projection
    down: Projection
    recompute: bool
    """Keep the input alone, and run the layer again in the backward pass."""

    def learning(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        norms = [p for p in (self.norm_in, self.norm_mid, *self.norm_heads) if p.requires_grad]
        parts = (self.qkv, self.out, self.gate_up, self.down)
        return [*norms, *(p for part in parts for p in part.learning())]


@dataclass
class _Kept:
    """What the backward pass of a layer needs beside its input."""

    qkv: Tensor
    attended: Tensor
    log_total: Tensor
    mid_TH: Tensor
    gate_up: Tensor
    inner: tuple[Tensor | None, ...]
    heads: tuple[Tensor, ...]
    """Queries and keys as they were before each head was normalised."""


def decoder_layer(x_TH: Tensor, layer: Layer, row: Row) -> Tensor:
    """One layer, [T, H] to [T, H], with gradient."""
    learning = layer.learning()
    if not torch.is_grad_enabled() or not (x_TH.requires_grad or learning):
        return _forward(layer, row, x_TH)[0]
    y_TH: Tensor = _DecoderLayer.apply(x_TH, layer, row, *learning)  # type: ignore[no-untyped-call]
    return y_TH


class _DecoderLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_TH: Tensor, layer: Layer, row: Row, *learning: nn.Parameter) -> Tensor:
        y_TH, kept = _forward(layer, row, x_TH)
        ctx.layer, ctx.row, ctx.learning = layer, row, learning
        ctx.kept = x_TH.detach(), (None if layer.recompute else kept)
        return y_TH

    @staticmethod
    def backward(ctx: Any, dy_TH: Tensor) -> tuple[Tensor | None, ...]:
        assert ctx.kept is not None, "a layer's backward pass uses up what it kept"
        (x_TH, kept), ctx.kept = ctx.kept, None
        if kept is None:
            kept = _forward(ctx.layer, ctx.row, x_TH)[1]
        grads: Grads = {}
        needs_dx = ctx.needs_input_grad[0]
        dx_TH = _backward(ctx.layer, ctx.row, x_TH, kept, dy_TH.contiguous(), grads, needs_dx)
        return (dx_TH, None, None, *(grads[parameter] for parameter in ctx.learning))


def _forward(layer: Layer, row: Row, x_TH: Tensor) -> tuple[Tensor, _Kept]:
    kernels = row.kernels
    normed_TH = kernels.rms_norm(x_TH, layer.norm_in, layer.eps)
    qkv, inner_qkv = layer.qkv.forward(normed_TH)
    heads = _normalise_heads(layer, row, qkv)
    kernels.rotary(qkv, row.heads.query + row.heads.groups, row.cos, row.sin)
    attended, log_total = kernels.attention(row.heads, row.begin_M1, *_split(qkv, row.heads))
    mid_TH, inner_out = layer.out.forward(attended)
    normed_TH = kernels.rms_norm(mid_TH, layer.norm_mid, layer.eps, residual_TH=x_TH)
    gate_up, inner_gate_up = layer.gate_up.forward(normed_TH)
    y_TH, inner_down = layer.down.forward(kernels.swiglu(gate_up))
    y_TH += mid_TH
    inner = (inner_qkv, inner_out, inner_gate_up, inner_down)
    return y_TH, _Kept(qkv, attended, log_total, mid_TH, gate_up, inner, heads)


def _backward(
    layer: Layer,
    row: Row,
    x_TH: Tensor,
    kept: _Kept,
    dy_TH: Tensor,
    grads: Grads,
    needs_dx: bool,
) -> Tensor | None:
    kernels, heads = row.kernels, row.heads
    inner_qkv, inner_out, inner_gate_up, inner_down = kept.inner

    act, dinner = layer.down.input_gradient(dy_TH)
    kernels.swiglu_backward(kept.gate_up, act)
    layer.down.gradients(dy_TH, act, inner_down, dinner, grads)
    del act
    normed_TH, dinner = layer.gate_up.input_gradient(kept.gate_up)
    dmid_TH = _norm_backward(
        kernels, layer.norm_mid, layer.eps, kept.mid_TH, normed_TH, dy_TH, grads
    )
    layer.gate_up.gradients(kept.gate_up, normed_TH, inner_gate_up, dinner, grads)

    dattended, dinner = layer.out.input_gradient(dmid_TH)
    layer.out.gradients(dmid_TH, kept.attended, inner_out, dinner, grads)
    kernels.attention_backward(
        heads, row.begin_M1, _split(kept.qkv, heads), kept.attended, dattended, kept.log_total
    )
    kernels.rotary(kept.qkv, heads.query + heads.groups, row.cos, row.sin, back=True)
    _normalise_heads_backward(layer, row, kept, grads)
    normed_TH, dinner = layer.qkv.input_gradient(kept.qkv)
    dx_TH = _norm_backward(kernels, layer.norm_in, layer.eps, x_TH, normed_TH, dmid_TH, grads)
    layer.qkv.gradients(kept.qkv, normed_TH, inner_qkv, dinner, grads)
    return dx_TH if needs_dx else None


def _normalise_heads(layer: Layer, row: Row, qkv: Tensor) -> tuple[Tensor, ...]:
    """Normalise queries and keys in place; returns what they were, [T·heads, D]."""
    before = []
    # The values, which stand last, are left as they are.
    for weight, part in zip(layer.norm_heads, _split(qkv, row.heads), strict=False):
        x = _rows_of_heads(part, row.heads)
        part.copy_(row.kernels.rms_norm(x, weight, layer.eps).view(part.shape))
        before.append(x)
    return tuple(before)


def _normalise_heads_backward(layer: Layer, row: Row, kept: _Kept, grads: Grads) -> None:
    """Replace the gradients of normalised queries and keys by those of what they were."""
    parts = _split(kept.qkv, row.heads)
    for weight, x, part in zip(layer.norm_heads, kept.heads, parts, strict=False):
        dy = _rows_of_heads(part, row.heads)
        dx = _norm_backward(row.kernels, weight, layer.eps, x, dy, None, grads)
        part.copy_(dx.view(part.shape))


def _rows_of_heads(part: Tensor, heads: Heads) -> Tensor:
    """A copy of queries or keys with a row for each head, [T·heads, D]."""
    return part.clone(memory_format=torch.contiguous_format).view(-1, heads.width)


def _norm_backward(
    kernels: Kernels,
    weight: nn.Parameter,
    eps: float,
    x_TH: Tensor,
    dy_TH: Tensor,
    residual_TH: Tensor | None,
    grads: Grads,
) -> Tensor:
    """The gradient of x; `dy_TH` becomes the normalised row, which the products need again."""
    dweight_H = torch.empty(len(weight)) if weight.requires_grad else None
    dx_TH = kernels.rms_norm_backward(x_TH, weight, eps, dy_TH, residual_TH, dweight_H)
    if dweight_H is not None:
        grads[weight] = dweight_H.to(weight.dtype)
    return dx_TH


def _split(qkv: Tensor, heads: Heads) -> tuple[Tensor, Tensor, Tensor]:
    widths = [heads.query * heads.width, heads.groups * heads.width, heads.groups * heads.width]
    q, k, v = qkv.split(widths, dim=1)
    return q, k, v


class KeptNorm(torch.autograd.Function):
    """Some rows of a row, normalised: [T, H] to [K, H]. The rows are distinct."""

    @staticmethod
    def forward(
        ctx: Any, x_TH: Tensor, kept_K: Tensor, weight: nn.Parameter, eps: float, kernels: Kernels
    ) -> Tensor:
        x_KH = x_TH.index_select(0, kept_K)
        ctx.save_for_backward(x_KH, kept_K)
        ctx.weight, ctx.eps, ctx.kernels, ctx.tokens = weight, eps, kernels, len(x_TH)
        return kernels.rms_norm(x_KH, weight, eps)

    @staticmethod
    def backward(ctx: Any, dy_KH: Tensor) -> tuple[Tensor | None, ...]:
        x_KH, kept_K = ctx.saved_tensors
        grads: Grads = {}
        dx_KH = _norm_backward(ctx.kernels, ctx.weight, ctx.eps, x_KH, dy_KH.clone(), None, grads)
        dx_TH = dx_KH.new_zeros(ctx.tokens, dx_KH.shape[1]).index_copy_(0, kept_K, dx_KH)
        return dx_TH, None, grads.get(ctx.weight), None, None
