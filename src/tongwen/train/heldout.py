"""Evaluation on held-out data, in bits per byte.

Bits per byte does not depend on the tokenizer, so models with different vocabularies, and Chinese
and English, can be compared: the negative log2 likelihood of the text's tokens over its bytes in
UTF-8 (Gao et al. 2020, The Pile, arXiv:2101.00027, section 3.1). Control tokens are not text and
are left out of it; the loss counts them as training does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from transformers import PreTrainedModel

from tongwen.data import LANGUAGES
from tongwen.train.batch import Items
from tongwen.train.mix import Ints
from tongwen.train.objective import language_model_losses


def held_out_metrics(
    model: PreTrainedModel,
    items: Items,
    control_ids: list[int],
    batch_tokens: int,
    max_tokens: int,
) -> dict[str, float]:
    """`held_out_loss` in nats per trained token, `bits_per_byte`, and the latter by language.

    Of more than `max_tokens` tokens, items from all over the set are taken up to that number.
    """
    chosen = _spread(items.lengths, max_tokens)
    control = torch.tensor(control_ids)
    nats = np.zeros(len(LANGUAGES))
    bytes_by_language = np.zeros(len(LANGUAGES))
    loss_sum, loss_count = 0.0, 0
    with torch.inference_mode():
        for part in _batches(chosen, items.lengths, batch_tokens):
            batch = items.batch(part)
            loss_K = language_model_losses(model, batch)
            loss_sum += float(loss_K.sum())
            loss_count += len(loss_K)
            text_K = loss_K * ~torch.isin(batch.target_K, control)
            counts = [int(items.mask(int(item))[1:].sum()) for item in part]
            for item, losses in zip(part, text_K.split(counts), strict=True):
                language = items.languages[item]
                nats[language] += float(losses.sum())
                bytes_by_language[language] += items.bytes[item]
    metrics = {
        "held_out_loss": loss_sum / loss_count,
        "bits_per_byte": _bits_per_byte(nats.sum(), bytes_by_language.sum()),
    }
    for place, language in enumerate(LANGUAGES):
        if bytes_by_language[place]:
            metrics[f"bits_per_byte_{language}"] = _bits_per_byte(
                nats[place], bytes_by_language[place]
            )
    return metrics


def _bits_per_byte(nats: float, text_bytes: float) -> float:
    return float(nats / math.log(2) / text_bytes) if text_bytes else math.nan


def _spread(lengths: Ints, max_tokens: int) -> Ints:
    """Items evenly from all over the set, so that no source is left out."""
    count = len(lengths)
    if (total := int(lengths.sum())) > max_tokens:
        count = max(1, round(count * max_tokens / total))
    return np.unique(np.linspace(0, len(lengths) - 1, count).astype(np.int64))


def _batches(chosen: Ints, lengths: Ints, batch_tokens: int) -> list[Ints]:
    parts = max(1, round(int(lengths[chosen].sum()) / batch_tokens))
    return [part for part in np.array_split(chosen, parts) if len(part)]
