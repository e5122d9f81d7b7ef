"""The engine of this machine against transformers' own generation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from tongwen.engine import Sampling, load_engine
from tongwen.engine import local as local_engine
from tongwen.engine.decode import decode
from tongwen.engine.local import LocalEngine
from tongwen.errors import DataError, ModelError
from tongwen.messages import Message, encode_text, render_prompt
from tongwen.models import PACKED, load_model
from tongwen.testing import tiny_model
from tongwen.tokenizer import load_tokenizer

GREEDY = Sampling(temperature=0.0, max_new_tokens=40)
QUESTIONS = ("hi", "你好，世界", "What is 3 + 4?", "x" * 50, "🙂", "从前有一座山，山上有一座庙")
CONVERSATIONS = [[Message("user", question)] for question in QUESTIONS]


def generated(engine: LocalEngine, prompt: list[int], sampling: Sampling) -> list[int]:
    made = decode(engine._model, [prompt], sampling, engine.context, engine.stop_ids)
    return [one.id for one in made]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_is_transformers_generate(tmp_path: Path, seed: int, penalty: float) -> None:
    engine = load_engine(tiny_model(tmp_path, seed=seed))
    sampling = Sampling(temperature=0.0, max_new_tokens=60, repetition_penalty=penalty)
    for messages in CONVERSATIONS:
        prompt = render_prompt(messages, engine._tokenizer)
        theirs = engine._model.generate(  # type: ignore[operator]
            torch.tensor([prompt]),
            do_sample=False,
            repetition_penalty=penalty,
            max_new_tokens=60,
            eos_token_id=sorted(engine.stop_ids),
            pad_token_id=0,
        )
        assert generated(engine, prompt, sampling) == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=0.0, max_new_tokens=40, repetition_penalty=1.2),
        Sampling(temperature=0.8, max_new_tokens=40, seed=3),
    ],
    ids=["greedy", "penalty", "seeded"],
)
def test_together_is_one_by_one(engine: LocalEngine, sampling: Sampling) -> None:
    together = engine.answer(CONVERSATIONS, sampling)
    alone = ["".join(engine.stream(messages, sampling)) for messages in CONVERSATIONS]
    assert together == alone
    assert len(set(together)) > 1


def test_padding_has_no_position(engine: LocalEngine) -> None:
    """Where positions are absolute, a sequence must not be moved by the padding before it."""
    config = GPT2Config(
        vocab_size=259, n_embd=64, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3,
        bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        absolute = LocalEngine(GPT2LMHeadModel(config), engine._tokenizer)
    together = absolute.answer(CONVERSATIONS, GREEDY)
    assert together == ["".join(absolute.stream(one, GREEDY)) for one in CONVERSATIONS]


def test_sequences_that_end_at_different_steps(engine: LocalEngine) -> None:
    """Every id may end an answer here, so lanes are taken out of the batch again and again."""
    prompts = [render_prompt(messages, engine._tokenizer) for messages in CONVERSATIONS * 3]
    sampling = Sampling(temperature=1.0, max_new_tokens=30, seed=1, repetition_penalty=1.1)
    stop = frozenset(range(0, 259, 10))
    answers: list[list[int]] = [[] for _ in prompts]
    for made in decode(engine._model, prompts, sampling, engine.context, stop):
        answers[made.prompt].append(made.id)
    alone = [
        [made.id for made in decode(engine._model, [prompt], sampling, engine.context, stop)]
        for prompt in prompts
    ]
    assert answers == alone
    assert len({len(answer) for answer in answers}) > 2


def test_many_conversations_are_computed_in_groups(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.answer(CONVERSATIONS, GREEDY)
    monkeypatch.setattr(local_engine, "BATCH_TOKENS", 150)
    assert engine.answer(CONVERSATIONS, GREEDY) == whole
    assert engine.answer([], GREEDY) == []


@settings(max_examples=25)
@given(question=st.text(max_size=20), seed=st.integers(0, 10_000))
def test_streamed_is_the_decoding_of_the_whole(
    engine: LocalEngine, question: str, seed: int
) -> None:
    sampling = Sampling(temperature=1.5, top_p=1.0, max_new_tokens=60, seed=seed)
    try:
        prompt = render_prompt([Message("user", question)], engine._tokenizer)
    except DataError:
        return
    ids = [one for one in generated(engine, prompt, sampling) if one not in engine.stop_ids]
    data = bytes(_byte(engine, number) for number in ids)
    pieces = list(engine.stream([Message("user", question)], sampling))
    assert "".join(pieces) == data.decode("utf-8", errors="replace")
    assert all(pieces)


def _byte(engine: LocalEngine, number: int) -> int:
    token = engine._tokenizer.convert_ids_to_tokens(number)
    assert isinstance(token, str)
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return ord(token) if ord(token) < 256 else rest[ord(token) - 256]


def test_the_same_seed_gives_the_same_answer(engine: LocalEngine) -> None:
    def answer(seed: int | None) -> str:
        sampling = Sampling(temperature=1.0, max_new_tokens=30, seed=seed)
        return "".join(engine.stream(CONVERSATIONS[0], sampling))

    assert answer(4) == answer(4)
    assert len({answer(4), answer(5), answer(None), answer(None)}) == 4


def test_the_account_of_an_answer(engine: LocalEngine) -> None:
    generation = engine.stream(CONVERSATIONS[0], Sampling(temperature=0.0, max_new_tokens=5))
    assert generation.finish == "interrupted"
    list(generation)
    assert (generation.finish, generation.tokens) == ("length", 5)
    assert generation.prompt_tokens == engine.count(CONVERSATIONS[0])


def test_long_answers_outgrow_the_first_buffers_of_the_cache(engine: LocalEngine) -> None:
    prompt = render_prompt(CONVERSATIONS[0], engine._tokenizer)
    theirs = engine._model.generate(  # type: ignore[operator]
        torch.tensor([prompt]), do_sample=False, max_new_tokens=200, eos_token_id=[0, 1, 2],
        pad_token_id=0,
    )  # fmt: skip
    ids = generated(engine, prompt, Sampling(temperature=0.0, max_new_tokens=200))
    assert ids == theirs[0, len(prompt) :].tolist()
    assert len(ids) > 150


def test_a_control_token_ends_the_answer_and_is_not_text(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = render_prompt(CONVERSATIONS[1], engine._tokenizer)
    ids = generated(engine, prompt, GREEDY)
    third = ids[2]
    monkeypatch.setattr(engine, "stop_ids", engine.stop_ids | {third})
    generation = engine.stream(CONVERSATIONS[1], GREEDY)
    text = "".join(generation)
    assert generation.finish == "stop"
    assert generation.tokens == ids.index(third) + 1
    assert text == engine._tokenizer.decode(ids[: ids.index(third)])


def test_our_control_tokens_and_the_models_end_answers(engine: LocalEngine) -> None:
    assert engine.stop_ids == {0, 1, 2}


def test_closing_stops(engine: LocalEngine) -> None:
    generation = engine.stream(CONVERSATIONS[0], Sampling(temperature=1.0, seed=0))
    next(generation)
    generation.close()
    assert list(generation) == []
    assert generation.finish == "interrupted"


def test_plain_text_begins_with_the_boundary(engine: LocalEngine) -> None:
    ids = [0, *encode_text(engine._tokenizer, "<|im_end|> 你好")]
    generation = engine.complete("<|im_end|> 你好", GREEDY)
    assert "".join(generation) == "".join(engine.generate(ids, GREEDY))
    assert generation.prompt_tokens == len(ids)
    assert engine.complete("", GREEDY).prompt_tokens == 1


def test_an_answer_ends_with_the_context(engine: LocalEngine) -> None:
    text = "a" * (engine.context - 6)
    generation = engine.complete(text, Sampling(temperature=0.0, max_new_tokens=100))
    list(generation)
    assert (generation.tokens, generation.finish) == (5, "length")


def test_a_prompt_without_room_for_an_answer_is_told(engine: LocalEngine) -> None:
    with pytest.raises(DataError, match="the prompt has 257 tokens"):
        engine.complete("a" * engine.context, GREEDY)
    long = [Message("user", "a" * 300)]
    with pytest.raises(DataError, match="conversation 2 has"):
        engine.answer([CONVERSATIONS[0], long], GREEDY)


def test_a_model_in_training_is_given_back_as_it_was(engine: LocalEngine) -> None:
    model = engine._model
    wanted = "".join(engine.stream(CONVERSATIONS[0], GREEDY))
    model.train()
    model.set_attn_implementation(PACKED)
    try:
        assert "".join(engine.stream(CONVERSATIONS[0], GREEDY)) == wanted
        assert model.training
        assert model.config._attn_implementation == PACKED
    finally:
        model.eval()
        model.set_attn_implementation("sdpa")
    assert not torch.is_inference_mode_enabled()


def test_the_caller_is_not_in_inference_mode_between_pieces(engine: LocalEngine) -> None:
    for _ in engine.stream(CONVERSATIONS[0], GREEDY):
        assert not torch.is_inference_mode_enabled()


def test_large_checkpoints_are_computed_in_bf16(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_engine(model_folder)._model.dtype == torch.float32
    monkeypatch.setattr(local_engine, "LARGE", 10_000)
    assert load_engine(model_folder)._model.dtype == torch.bfloat16


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["中文"])
    with pytest.raises(ModelError, match="260 tokens, the model has 259"):
        LocalEngine(load_model(folder, torch.float32), tokenizer)


def test_tiny_model_is_the_same_twice(tmp_path: Path) -> None:
    first, second = tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    config = json.loads((first / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 2
