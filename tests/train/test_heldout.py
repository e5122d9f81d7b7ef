"""Bits per byte against its definition, item by item."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tongwen.data import LANGUAGES, TokenStore
from tongwen.models import PACKED, new_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train.batch import Items
from tongwen.train.heldout import held_out_metrics


@pytest.mark.parametrize("name", ["text", "chat"])
def test_bits_per_byte_is_the_likelihood_of_the_text_over_its_bytes(
    lessons: Path, name: str
) -> None:
    tokenizer = load_tokenizer(lessons / "tokenizer")
    items = Items([TokenStore.open(lessons / name, "held_out")])
    model = new_model("1m", len(tokenizer), 256, seed=1)
    control = tokenizer.all_special_ids

    bits, text_bytes, loss, count = (
        dict.fromkeys(LANGUAGES, 0.0),
        dict.fromkeys(LANGUAGES, 0),
        0.0,
        0,
    )
    for item in range(len(items)):
        ids = torch.from_numpy(items.ids(item))
        logp = model(input_ids=ids[None]).logits[0].detach().log_softmax(-1)
        trained = [p for p in range(1, len(ids)) if items.mask(item)[p]]
        losses = {p: -float(logp[p - 1, ids[p]]) for p in trained}
        language = LANGUAGES[items.languages[item]]
        text = [p for p in trained if int(ids[p]) not in control]
        bits[language] += sum(losses[p] for p in text) / math.log(2)
        text_bytes[language] += len(str(tokenizer.decode(ids[text])).encode())
        loss += sum(losses.values())
        count += len(trained)

    model.set_attn_implementation(PACKED)
    metrics = held_out_metrics(model, items, control, batch_tokens=500, max_tokens=10**9)
    assert metrics["held_out_loss"] == pytest.approx(loss / count, rel=1e-4)
    total = sum(bits.values()) / sum(text_bytes.values())
    assert metrics["bits_per_byte"] == pytest.approx(total, rel=1e-4)
    for language in LANGUAGES:
        if text_bytes[language]:
            expected = bits[language] / text_bytes[language]
            assert metrics[f"bits_per_byte_{language}"] == pytest.approx(expected, rel=1e-4)


def test_a_cap_takes_items_from_all_over_the_set(lessons: Path) -> None:
    items = Items([TokenStore.open(lessons / "chat", "held_out")])
    model = new_model("1m", len(load_tokenizer(lessons / "tokenizer")), 256, seed=1)
    model.set_attn_implementation(PACKED)
    capped = held_out_metrics(model, items, [0, 1, 2], batch_tokens=500, max_tokens=200)
    whole = held_out_metrics(model, items, [0, 1, 2], batch_tokens=500, max_tokens=10**9)
    assert capped["held_out_loss"] != whole["held_out_loss"]
    assert capped["held_out_loss"] == pytest.approx(whole["held_out_loss"], rel=0.1)
