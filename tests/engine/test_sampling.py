"""The filters are transformers' filters, and a seed is a promise."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tongwen.config import ChatConfig, SamplingConfig
from tongwen.engine import Sampling
from tongwen.engine.sampling import filtered, generator, next_ids, penalised
from tongwen.errors import ModelError

VOCAB = 50


def scores(seed: int, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.05, 5.0),
    top_k=st.integers(0, VOCAB + 10),
    top_p=st.floats(0.01, 1.0),
    penalty=st.floats(0.5, 2.0),
)
def test_the_filters_are_those_of_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, penalty: float
) -> None:
    logits_BV = scores(seed)
    ids_BT = torch.LongTensor(3, 12)
    ids_BT.random_(VOCAB, generator=torch.Generator().manual_seed(seed))
    theirs = LogitsProcessorList()
    theirs.append(RepetitionPenaltyLogitsProcessor(penalty))
    theirs.append(TemperatureLogitsWarper(temperature))
    if top_k:
        theirs.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        theirs.append(TopPLogitsWarper(top_p))
    seen_BV = torch.zeros_like(logits_BV, dtype=torch.bool).scatter_(1, ids_BT, True)
    ours = filtered(
        penalised(logits_BV, seen_BV, penalty),
        Sampling(temperature=temperature, top_k=top_k, top_p=top_p),
    )
    assert torch.equal(ours, theirs(ids_BT, cast(torch.FloatTensor, logits_BV.clone())))


def test_temperature_zero_takes_the_likeliest() -> None:
    logits_BV = scores(0)
    greedy = Sampling(temperature=0, top_k=3, top_p=0.1)
    sources = [generator(0)] * 3
    assert torch.equal(next_ids(logits_BV, greedy, sources), logits_BV.argmax(-1))


def test_the_draw_follows_the_probabilities() -> None:
    logits_BV = torch.tensor([[0.0, 1.0, 2.0, -30.0]])
    wanted = logits_BV.softmax(-1)[0]
    source = generator(1)
    sampling = Sampling(temperature=1.0, top_p=1.0)
    drawn = [int(next_ids(logits_BV, sampling, [source])) for _ in range(4000)]
    found = torch.bincount(torch.tensor(drawn), minlength=4) / len(drawn)
    assert torch.allclose(found, wanted, atol=0.03)


def test_a_sequence_draws_the_same_alone_and_beside_others() -> None:
    logits_BV = scores(5)
    sampling = Sampling(temperature=1.5, top_p=1.0, seed=9)
    together = next_ids(logits_BV, sampling, [generator(9) for _ in range(3)])
    alone = [next_ids(logits_BV[b : b + 1], sampling, [generator(9)]) for b in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_without_a_seed_draws_differ() -> None:
    states = {tuple(torch.rand(4, generator=generator(None)).tolist()) for _ in range(4)}
    assert len(states) == 4


def test_scores_that_are_no_numbers_are_told() -> None:
    with pytest.raises(ModelError, match="not numbers"):
        next_ids(torch.full((1, 5), float("nan")), Sampling(), [generator(0)])


def test_sampling_is_sampling_config() -> None:
    config = SamplingConfig()
    assert {one.name for one in fields(Sampling)} == set(SamplingConfig.model_fields)
    assert Sampling() == Sampling.of(config)
    given = {"max_new_tokens": 3, "temperature": 0.1, "top_p": 0.2, "top_k": 4}
    chosen = {**given, "repetition_penalty": 1.5, "seed": 6}
    assert Sampling.of(ChatConfig(model="m", **chosen)) == Sampling(**chosen)  # type: ignore[arg-type]
