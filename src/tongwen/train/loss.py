"""Cross entropy at the trained positions only, without ever holding all logits.

Legend: K trained positions, C positions of a chunk, H hidden width, V vocabulary.

A language model's logits are its largest tensor by far (K·V), and most frameworks compute them for
every position and keep them for the backward pass. Here the head is applied to the trained
positions alone, a chunk at a time, and the gradient takes the place of the logits, so that one
chunk of logits exists at any moment (the idea of Liger's fused linear cross entropy and of Cut
Cross-Entropy, arXiv:2411.09009). The gradient of the head is summed in fp32, and not computed
where the head does not learn.
"""

from __future__ import annotations

import mmap
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tongwen.native import DTYPES, add_in_place, kernels

# Logits of a chunk: enough rows for fast products. Where the head learns it is twice as much, as
# several chunks need the sum of its gradient in fp32, and as much time again to keep it.
CHUNK_BYTES = 2**28
# Products of an odd number of rows are up to a third slower, so a chunk has a multiple of this.
ROWS = 64


def linear_cross_entropy(hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
    """Sum over K of -log softmax(hidden @ weight.T)[target], in nats, as fp32.

    The gradient is formed in the forward pass, where the logits are at hand.
    """
    if not _learns(hidden_KH, weight_VH):
        return token_losses(hidden_KH, weight_VH, target_K).sum()
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_KH, weight_VH, target_K
    )
    return loss


def linear_logps(hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
    """log softmax(hidden @ weight.T)[target] of each position, in nats, as fp32, with gradient.

    The logits are computed again in the backward pass.
    """
    if not _learns(hidden_KH, weight_VH):
        return -token_losses(hidden_KH, weight_VH, target_K)
    logps_K: Tensor = _LinearLogps.apply(  # type: ignore[no-untyped-call]
        hidden_KH, weight_VH, target_K
    )
    return logps_K


@torch.no_grad()
def token_losses(hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
    """-log softmax(hidden @ weight.T)[target] of each position, in nats, without gradient."""
    count = len(target_K)
    hidden_KH, target_K = _filled(hidden_KH), _filled(target_K)
    loss_K = torch.empty(len(target_K), dtype=torch.float32, device=hidden_KH.device)
    logits_CV = _chunk_of_logits(hidden_KH, weight_VH, CHUNK_BYTES)
    for chunk in _chunks(len(target_K), len(logits_CV)):
        part_CV = logits_CV[: chunk.stop - chunk.start]
        torch.mm(hidden_KH[chunk], weight_VH.t(), out=part_CV)
        loss_K[chunk] = _cross_entropy(part_CV, target_K[chunk], None)
    return loss_K[:count]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
        ones_K = torch.ones(len(target_K), device=hidden_KH.device)
        loss_K, *grads = _gradients(hidden_KH, weight_VH, target_K, ones_K, ctx.needs_input_grad[1])
        ctx.save_for_backward(*grads)
        return loss_K.sum()

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden_KH, grad_weight_VH = ctx.saved_tensors
        # In place: the gradient of the head is the largest tensor of all.
        if grad_weight_VH is not None:
            grad_weight_VH.mul_(grad_total)
        return grad_hidden_KH * grad_total, grad_weight_VH, None


class _LinearLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_KH, weight_VH, target_K)
        return -token_losses(hidden_KH, weight_VH, target_K)

    @staticmethod
    def backward(ctx: Any, grad_K: Tensor) -> tuple[Tensor | None, ...]:
        hidden_KH, weight_VH, target_K = ctx.saved_tensors
        _, grad_hidden_KH, grad_weight_VH = _gradients(
            hidden_KH, weight_VH, target_K, -grad_K, ctx.needs_input_grad[1]
        )
        return grad_hidden_KH, grad_weight_VH, None


def _gradients(
    hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor, factor_K: Tensor, learns: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Loss of each position, and the gradients of their sum weighted by `factor_K`."""
    count = len(target_K)
    # The rows that fill up weigh nothing, so their gradient is zero.
    hidden_KH, target_K, factor_K = _filled(hidden_KH), _filled(target_K), _filled(factor_K)
    loss_K = torch.empty_like(factor_K)
    grad_hidden_KH = torch.empty_like(hidden_KH)
    grad_weight_VH: Tensor | None = None
    logits_CV = _chunk_of_logits(hidden_KH, weight_VH, CHUNK_BYTES << learns)
    for chunk in _chunks(len(target_K), len(logits_CV)):
        part_CV, hidden_CH = logits_CV[: chunk.stop - chunk.start], hidden_KH[chunk]
        torch.mm(hidden_CH, weight_VH.t(), out=part_CV)
        loss_K[chunk] = _cross_entropy(part_CV, target_K[chunk], factor_K[chunk])
        torch.mm(part_CV, weight_VH, out=grad_hidden_KH[chunk])
        if learns:
            here_VH = _product(part_CV.t(), hidden_CH)
            if grad_weight_VH is None:
                alone = chunk.stop == len(target_K)
                grad_weight_VH = here_VH if alone else here_VH.float()
            else:
                add_in_place(grad_weight_VH, here_VH)
    # Of fp16 it is rounded by autograd, once the caller has divided it by the tokens of the step.
    if grad_weight_VH is not None and weight_VH.dtype != torch.float16:
        grad_weight_VH = grad_weight_VH.to(weight_VH.dtype)
    return loss_K[:count], grad_hidden_KH[:count], grad_weight_VH


def _product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right; in fp32 where they are fp16, whose range a sum over all positions may leave."""
    if left.dtype == torch.float16:
        left, right = left.float(), right.float()
    return torch.mm(left, right)


def _cross_entropy(logits_CV: Tensor, target_C: Tensor, factor_C: Tensor | None) -> Tensor:
    """Losses [C]; with factors, the logits become the gradient of the weighted sum."""
    if logits_CV.device.type == "cpu" and logits_CV.dtype in DTYPES:
        compiled = kernels()
        if compiled is not None:
            return compiled.cross_entropy(logits_CV, target_C, factor_C)
    logp_CV = torch.log_softmax(logits_CV.float(), dim=-1)
    loss_C = -logp_CV.gather(1, target_C[:, None])[:, 0]
    if factor_C is not None:
        # d loss / d logits = softmax - one-hot
        grad_CV = logp_CV.exp_()
        grad_CV.scatter_add_(1, target_C[:, None], grad_CV.new_full((len(grad_CV), 1), -1.0))
        logits_CV.copy_(grad_CV.mul_(factor_C[:, None]))
    return loss_C


def _filled(x: Tensor) -> Tensor:
    """With zeros behind its rows, up to a whole number of `ROWS`."""
    missing = -len(x) % ROWS
    return F.pad(x, (0, 0) * (x.dim() - 1) + (0, missing)) if missing else x


class _Kept:
    """Memory that is kept from one call to the next.

    Given back, a block of this size would be cut up for others, and asked for anew at every step.
    On a processor it lies apart from all other memory: one that grows among them would leave a hole
    of its size behind every time.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def room(self, rows: int, width: int, like: Tensor) -> Tensor:
        """[rows, width] of the precision and on the device of `like`; holds anything."""
        kept, size = self._memory, rows * width
        if kept.numel() < size or (kept.dtype, kept.device) != (like.dtype, like.device):
            self._memory = torch.empty(0)  # before there is another one
            # A little more, which costs nothing until it is used: rows differ in length.
            self._memory = _apart(size + size // 8, like)
        return self._memory[:size].view(rows, width)


def _apart(size: int, like: Tensor) -> Tensor:
    """Memory of the system's own for so many numbers, of the precision and device of `like`."""
    # An evaluation may be the first to ask, and training writes there as well.
    with torch.inference_mode(mode=False):
        if like.device.type != "cpu" or not size:
            return torch.empty(size, dtype=like.dtype, device=like.device)
        mine = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        block = mmap.mmap(-1, size * like.element_size(), flags=mine)
        return torch.frombuffer(block, dtype=like.dtype)


_LOGITS = _Kept()


def _chunk_of_logits(hidden_KH: Tensor, weight_VH: Tensor, size: int) -> Tensor:
    """Room for the logits of each of the fewest chunks of about equal size."""
    groups, vocabulary = len(hidden_KH) // ROWS, len(weight_VH)
    most = max(1, size // (ROWS * vocabulary * hidden_KH.element_size()))
    chunks = max(1, -(-groups // most))
    return _LOGITS.room(ROWS * -(-groups // chunks), vocabulary, like=hidden_KH)


def _chunks(count: int, rows: int) -> list[slice]:
    return [slice(begin, min(begin + rows, count)) for begin in range(0, count, max(1, rows))]


def _learns(hidden_KH: Tensor, weight_VH: Tensor) -> bool:
    return torch.is_grad_enabled() and (hidden_KH.requires_grad or weight_VH.requires_grad)
