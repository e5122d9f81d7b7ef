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
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.data import LANGUAGES
from tongwen.train.batch import Items
from tongwen.train.mix import Ints
from tongwen.train.objective import language_model_losses
from tongwen.train.processes import exchange, share

TOLD = 5


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
    control = torch.tensor(control_ids)
    mine, idle = share(parts_of(spread(items.lengths, max_tokens), items.lengths, batch_tokens))
    with torch.inference_mode():
        sums = [_sums(model, items, part, control) for part in mine]
    everyone = [one for sums in exchange(sums[:-1] if idle else sums) for one in sums]
    # Exact sums, so that they do not depend on how the parts are divided among processes.
    loss, tokens, *by_language = map(math.fsum, zip(*everyone, strict=True))
    nats, bytes_by_language = np.split(np.array(by_language), 2)
    metrics = {
        "held_out_loss": loss / tokens,
        "bits_per_byte": _bits_per_byte(nats.sum(), bytes_by_language.sum()),
    }
    for place, language in enumerate(LANGUAGES):
        if bytes_by_language[place]:
            metrics[f"bits_per_byte_{language}"] = _bits_per_byte(
                nats[place], bytes_by_language[place]
            )
    return metrics


def _sums(model: PreTrainedModel, items: Items, part: Ints, control: Tensor) -> list[float]:
    """Nats and trained tokens of some items; nats of their text, and its bytes, by language."""
    batch = items.batch(part)
    loss_K = language_model_losses(model, batch.to(model.device)).cpu()
    text_K = loss_K * ~torch.isin(batch.target_K, control)
    nats, text_bytes = np.zeros(len(LANGUAGES)), np.zeros(len(LANGUAGES))
    counts = [int(items.mask(int(item))[1:].sum()) for item in part]
    for item, losses in zip(part, text_K.split(counts), strict=True):
        language = items.languages[item]
        nats[language] += float(losses.sum())
        text_bytes[language] += items.bytes[item]
    return [float(loss_K.sum()), float(len(loss_K)), *nats.tolist(), *text_bytes.tolist()]


def told(metrics: dict[str, float]) -> str:
    """The first held-out figures as a line of talk; the metrics have all of them."""
    shown = [
        f"{key.removeprefix('held_out_').replace('_', ' ')} {value:.3f}"
        for key, value in metrics.items()
        if not key.startswith("unaveraged")
    ]
    return f"held-out {', '.join(shown[:TOLD])}"


def is_held_out(record: dict[str, float]) -> bool:
    """Whether a line of the metrics is of an evaluation."""
    return any(key.startswith("held_out") for key in record)


def _bits_per_byte(nats: float, text_bytes: float) -> float:
    return float(nats / math.log(2) / text_bytes) if text_bytes else math.nan


def spread(lengths: Ints, max_tokens: int) -> Ints:
    """Items evenly from all over the set, so that no source is left out."""
    count = len(lengths)
    if (total := int(lengths.sum())) > max_tokens:
        count = max(1, round(count * max_tokens / total))
    return np.unique(np.linspace(0, len(lengths) - 1, count).astype(np.int64))


def parts_of(chosen: Ints, lengths: Ints, batch_tokens: int) -> list[Ints]:
    """Items cut into parts of about so many tokens."""
    parts = max(1, round(int(lengths[chosen].sum()) / batch_tokens))
    return [part for part in np.array_split(chosen, parts) if len(part)]
