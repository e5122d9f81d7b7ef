"""Cross entropy at the trained positions only, without ever holding all logits.

Legend: K trained positions, C positions of a chunk, H hidden width, V vocabulary.

A language model's logits are its largest tensor by far (K·V), and most frameworks compute them for
every position and keep them for the backward pass. Here the head is applied to the trained
positions alone, a chunk at a time, and the gradient is formed in the forward pass, so that one
chunk of logits exists at any moment (the idea of Liger's fused linear cross entropy and of Cut
Cross-Entropy, arXiv:2411.09009).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 1024


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
        grad_hidden_KH = torch.empty_like(hidden_KH)
        grad_weight_VH = torch.zeros(weight_VH.shape, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32)
        for begin in range(0, len(target_K), CHUNK):
            hidden_CH = hidden_KH[begin : begin + CHUNK]
            target_C1 = target_K[begin : begin + CHUNK, None]
            logp_CV = torch.log_softmax((hidden_CH @ weight_VH.T).float(), dim=-1)
            total -= logp_CV.gather(1, target_C1).sum()
            # d loss / d logits = softmax - one-hot
            grad_CV = logp_CV.exp_()
            grad_CV.scatter_add_(1, target_C1, grad_CV.new_full(target_C1.shape, -1.0))
            grad_CV = grad_CV.to(hidden_KH.dtype)
            torch.mm(grad_CV, weight_VH, out=grad_hidden_KH[begin : begin + CHUNK])
            grad_weight_VH += grad_CV.T @ hidden_CH
        ctx.save_for_backward(grad_hidden_KH, grad_weight_VH.to(weight_VH.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_hidden_KH, grad_weight_VH = ctx.saved_tensors
        return grad_hidden_KH * grad_total, grad_weight_VH * grad_total, None


def linear_cross_entropy(hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
    """Sum over K of -log softmax(hidden @ weight.T)[target], in nats, as fp32."""
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_KH, weight_VH, target_K
    )
    return loss


def token_losses(hidden_KH: Tensor, weight_VH: Tensor, target_K: Tensor) -> Tensor:
    """-log softmax(hidden @ weight.T)[target] of each position, in nats, without gradient."""
    parts = [
        torch.nn.functional.cross_entropy(
            (hidden_KH[begin : begin + CHUNK] @ weight_VH.T).float(),
            target_K[begin : begin + CHUNK],
            reduction="none",
        )
        for begin in range(0, len(target_K), CHUNK)
    ]
    return torch.cat(parts) if parts else hidden_KH.new_zeros(0, dtype=torch.float32)
