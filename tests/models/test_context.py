"""Longer windows: the frequencies of the papers, and what cannot be extended."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from transformers import PreTrainedModel

from tongwen.config import Rope
from tongwen.errors import ConfigError, ModelError
from tongwen.models import new_model
from tongwen.models.context import extend_context, reaching_base

WIDTH = 32
BASE = 10000.0
PLAIN = BASE ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)


@pytest.fixture
def model() -> PreTrainedModel:
    return new_model("1m", 300, 64, 0)


def frequencies(model: PreTrainedModel) -> torch.Tensor:
    inv_freq: torch.Tensor = model.model.rotary_emb.inv_freq
    return inv_freq.double()


def test_interpolation_divides_positions_by_the_factor(model: PreTrainedModel) -> None:
    extend_context(model, 256, "linear")
    torch.testing.assert_close(frequencies(model), PLAIN / 4, atol=1e-9, rtol=1e-6)
    assert model.config.max_position_embeddings == 256


def test_yarn_keeps_fast_pairs_divides_slow_ones_and_sharpens(model: PreTrainedModel) -> None:
    extend_context(model, 1024, "yarn")
    found, factor = frequencies(model), 16
    turns = 64 * PLAIN / (2 * math.pi)  # full circles of each pair in the window of training
    fast, slow = turns > 32, turns < 1
    assert bool(slow.any())
    torch.testing.assert_close(found[slow], PLAIN[slow] / factor, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(found[fast], PLAIN[fast], atol=1e-9, rtol=1e-6)
    between = ~fast & ~slow
    assert bool(
        ((found[between] <= PLAIN[between]) & (found[between] >= PLAIN[between] / factor)).all()
    )
    assert model.model.rotary_emb.attention_scaling == pytest.approx(0.1 * math.log(16) + 1)


def test_another_base_slows_every_pair_but_the_first(model: PreTrainedModel) -> None:
    extend_context(model, 256, "base", theta=5e5)
    expected = 5e5 ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    torch.testing.assert_close(frequencies(model), expected, atol=1e-9, rtol=1e-6)


def test_the_base_that_reaches_a_window_reaches_it() -> None:
    # LLaMA 2: heads of 128, trained on 4,096 tokens; the paper gives 92 critical dimensions.
    assert 2 * math.ceil(64 * math.log(4096 / (2 * math.pi), 10000)) == 92
    base = reaching_base(10000.0, 128, 4096, 32768)
    assert 2 * math.pi * base ** (92 / 128) == pytest.approx(32768)
    assert reaching_base(10000.0, 128, 4096, 4096) == 10000.0


@pytest.mark.parametrize("method", get_args(Rope))
def test_short_text_still_runs_and_the_configuration_is_saved(
    model: PreTrainedModel, method: Rope
) -> None:
    extend_context(model, 256, method)
    ids = torch.arange(200)[None]
    logits = model(input_ids=ids).logits
    assert bool(torch.isfinite(logits).all())
    again = type(model)(type(model.config).from_dict(model.config.to_dict()))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(input_ids=ids).logits, logits)


def test_what_cannot_be_extended_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(ConfigError, match="sees 64 tokens already, --context asks for 64"):
        extend_context(model, 64, "yarn")
    extend_context(model, 128, "yarn")
    with pytest.raises(ModelError, match="of the kind `yarn` already"):
        extend_context(model, 256, "linear")


def test_extending_again_counts_from_the_window_of_training(model: PreTrainedModel) -> None:
    extend_context(model, 128, "linear")
    extend_context(model, 256, "linear")
    torch.testing.assert_close(frequencies(model), PLAIN / 4, atol=1e-9, rtol=1e-6)
