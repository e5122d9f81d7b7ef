"""Choose the next token from the scores of a model.

Legend: B sequences, V vocabulary.

The filters are those of transformers' logits processors, in the same order: repetition penalty,
temperature, top-k, top-p. Every sequence has a source of randomness of its own, so that the same
seed gives the same answer whatever is computed beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tongwen.engine.protocol import Sampling
from tongwen.errors import ModelError


def generator(seed: int | None) -> torch.Generator:
    """The source of randomness of one request: from its seed, or a fresh one."""
    source = torch.Generator()
    if seed is None:
        source.seed()
    else:
        source.manual_seed(seed)
    return source


def next_ids(
    logits_BV: Tensor,
    sampling: Sampling,
    sources: Sequence[torch.Generator],
    seen_BV: Tensor | None = None,
) -> Tensor:
    """The next token id of each sequence, [B]; `seen_BV` marks the tokens that it has already."""
    scores_BV = logits_BV.float()
    if bool(scores_BV.isnan().any()):
        raise ModelError(
            "the model's scores are not numbers",
            hint="its weights are damaged or its training diverged; take an earlier checkpoint",
        )
    if seen_BV is not None:
        scores_BV = penalised(scores_BV, seen_BV, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return scores_BV.argmax(-1)
    probability_BV = filtered(scores_BV, sampling).softmax(-1).cpu()
    drawn = [
        torch.multinomial(probability_V, 1, generator=source)
        for probability_V, source in zip(probability_BV, sources, strict=True)
    ]
    return torch.cat(drawn).to(logits_BV.device)


def penalised(scores_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Repetition penalty of Keskar et al. 2019 (CTRL, arXiv:1909.05858, section 4.1)."""
    lowered_BV = torch.where(scores_BV < 0, scores_BV * penalty, scores_BV / penalty)
    return torch.where(seen_BV, lowered_BV, scores_BV)


def filtered(scores_BV: Tensor, sampling: Sampling) -> Tensor:
    """Temperature, then -inf for all but the likeliest k, then for all beyond the top-p set."""
    scores_BV = scores_BV / sampling.temperature
    if 0 < sampling.top_k < scores_BV.shape[-1]:
        least_B1 = scores_BV.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores_BV = scores_BV.masked_fill(scores_BV < least_B1, float("-inf"))
    if sampling.top_p < 1.0:
        sorted_BV, order_BV = scores_BV.sort(dim=-1)
        beyond_BV = sorted_BV.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        beyond_BV[:, -1] = False
        removed_BV = torch.zeros_like(beyond_BV).scatter(1, order_BV, beyond_BV)
        scores_BV = scores_BV.masked_fill(removed_BV, float("-inf"))
    return scores_BV
