"""Rows are added where the new ids are, and taken out where the old ids were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tongwen.config import EmbeddingInit, TokenizerExtendConfig, TokenizerPruneConfig
from tongwen.errors import ConfigError, DataError, ModelError
from tongwen.models import load_model
from tongwen.models.embeddings import grow, rows, shrink
from tongwen.models.vocabulary import MAPPING, tokenizer_extend, tokenizer_prune
from tongwen.testing import tiny_model
from tongwen.tokenizer import load_tokenizer

SPELLED = ((3, 4), (5, 6, 7), (8, 8))
MakeModel = Callable[..., LlamaForCausalLM]


@pytest.fixture
def make() -> MakeModel:
    def model(*, tied: bool, vocab_size: int = 20) -> LlamaForCausalLM:
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab_size,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                tie_word_embeddings=tied,
                initializer_range=0.3,
            )
        )

    return model


def matrices(model: LlamaForCausalLM) -> tuple[Tensor, Tensor]:
    return model.model.embed_tokens.weight.detach(), model.lm_head.weight.detach()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("init", get_args(EmbeddingInit))
def test_old_rows_stay_and_old_logits_with_them(
    make: MakeModel, tied: bool, init: EmbeddingInit
) -> None:
    model = make(tied=tied)
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
    old = [weight.clone() for weight in matrices(model)]
    grow(model, 20, SPELLED, init, seed=0)
    assert rows(model) == model.config.vocab_size == 23
    assert (model.model.embed_tokens.weight is model.lm_head.weight) is tied
    for was, now in zip(old, matrices(model), strict=True):
        assert torch.equal(now[:20], was)
    with torch.inference_mode():
        after = model(input_ids=ids).logits
    assert after.shape[-1] == 23
    torch.testing.assert_close(after[..., :20], before)


@pytest.mark.parametrize("tied", [True, False])
def test_what_the_new_rows_hold(make: MakeModel, tied: bool) -> None:
    filled = {}
    for init in get_args(EmbeddingInit):
        model = make(tied=tied)
        grow(model, 20, SPELLED, init, seed=7)
        filled[init] = [weight[20:] for weight in matrices(model)]
    for place, old in enumerate(matrices(make(tied=tied))):
        mean = old.mean(0)
        torch.testing.assert_close(filled["mean"][place], mean.expand(3, -1))
        torch.testing.assert_close(filled["subtokens"][place][1], old[5:8].mean(0))
        torch.testing.assert_close(filled["subtokens"][place][2], old[8])
        assert 0 < (filled["normal"][place] - mean).abs().max() < 0.02
        assert filled["random"][place].std() > 0.1


def test_normal_rows_have_the_covariance_of_the_old_ones(make: MakeModel) -> None:
    model = make(tied=True, vocab_size=50)
    old = matrices(model)[0].clone()
    grow(model, 50, [(0,)] * 20_000, "normal", seed=1)
    drawn = matrices(model)[0][50:]
    expected = torch.cov(old.T, correction=0) * 1e-5
    torch.testing.assert_close(
        torch.cov(drawn.T), expected, rtol=0.1, atol=float(expected.max()) * 0.05
    )


def test_padding_rows_are_used_up_first(make: MakeModel) -> None:
    model = make(tied=False, vocab_size=24)
    grow(model, 20, SPELLED, "subtokens", seed=0)
    assert rows(model) == 24
    for weight, old in zip(matrices(model), matrices(make(tied=False, vocab_size=24)), strict=True):
        torch.testing.assert_close(weight[20], old[3:5].mean(0))
        torch.testing.assert_close(weight[23], old[:20].mean(0))
    grow(model, 24, SPELLED, "mean", seed=0, pad_to=16)
    assert rows(model) == 32


@pytest.mark.parametrize("tied", [True, False])
def test_a_smaller_model_says_the_same_of_what_it_kept(make: MakeModel, tied: bool) -> None:
    model = make(tied=tied)
    kept = [0, 2, 3, 11, 19]
    with torch.inference_mode():
        before = model(input_ids=torch.tensor([kept])).logits[..., kept]
        shrink(model, kept)
        after = model(input_ids=torch.arange(5)[None]).logits
    torch.testing.assert_close(after, before)
    assert rows(model) == model.config.vocab_size == 5


def test_a_tokenizer_of_another_model_is_refused(make: MakeModel) -> None:
    with pytest.raises(ModelError, match="21 tokens, the model only 20 rows"):
        grow(make(tied=True), 21, SPELLED, "mean", seed=0)
    with pytest.raises(ModelError, match="the id 20, the model only 20 rows"):
        shrink(make(tied=True), [0, 20])


@pytest.fixture
def poem(tmp_path: Path) -> Path:
    path = tmp_path / "poem.txt"
    path.write_text("床前明月光，疑是地上霜。\n举头望明月，低头思故乡。\n" * 20, encoding="utf-8")
    return path


def test_extend_writes_a_model_that_loads(tmp_path: Path, poem: Path) -> None:
    model = tiny_model(tmp_path / "model")
    out = tmp_path / "out"
    result = tokenizer_extend(
        TokenizerExtendConfig(
            tokenizer=model, model=model, text=[poem], add=30, out=out, compare=True, pad_to=8
        )
    )
    assert (result.vocab_size_before, result.vocab_size, result.embedding_rows) == (259, 289, 296)
    assert result.tokens < result.tokens_before / 2
    assert result.chinese_tokens < result.chinese_tokens_before
    loaded = load_model(out, torch.float32)
    assert rows(loaded) == 296
    assert len(load_tokenizer(out)) == 289
    inits = [start.init for start in result.starts]
    assert (inits[-1], set(inits[:-1])) == ("before", set(get_args(EmbeddingInit)))
    losses = [start.bits_per_byte for start in result.starts[:-1]]
    assert losses == sorted(losses)


def test_extend_with_the_pieces_of_another(tmp_path: Path, poem: Path) -> None:
    old, other = tiny_model(tmp_path / "old"), tmp_path / "other"
    tokenizer_extend(TokenizerExtendConfig(tokenizer=old, text=[poem], add=30, out=other))
    result = tokenizer_extend(
        TokenizerExtendConfig(tokenizer=old, pieces=other, text=[poem], out=tmp_path / "out")
    )
    assert 259 < result.vocab_size <= 289
    assert result.tokens < result.tokens_before


def test_prune_undoes_an_extension(tmp_path: Path, poem: Path) -> None:
    old = tiny_model(tmp_path / "old")
    large, small = tmp_path / "large", tmp_path / "small"
    tokenizer_extend(
        TokenizerExtendConfig(tokenizer=old, model=old, text=[poem], add=30, out=large)
    )
    english = tmp_path / "english.txt"
    english.write_text("moonlight\n", encoding="utf-8")
    result = tokenizer_prune(
        TokenizerPruneConfig(tokenizer=large, model=large, text=[english], out=small)
    )
    assert (result.vocab_size_before, result.vocab_size) == (289, 259)
    assert result.texts_cut_otherwise == 0
    assert json.loads((small / MAPPING).read_text(encoding="utf-8")) == list(range(259))
    first, last = load_model(old, torch.float32), load_model(small, torch.float32)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, last.state_dict()[name]), name


def test_prune_keeps_what_a_list_names(tmp_path: Path, poem: Path) -> None:
    large, wishes = tmp_path / "large", tmp_path / "keep.txt"
    old = tiny_model(tmp_path / "old")
    extended = tokenizer_extend(
        TokenizerExtendConfig(tokenizer=old, text=[poem], add=30, out=large)
    )
    token = str(load_tokenizer(large).convert_ids_to_tokens(extended.vocab_size - 1))
    wishes.write_text(f"{token}\n", encoding="utf-8")
    config = TokenizerPruneConfig(tokenizer=large, keep=wishes, out=tmp_path / "small")
    tokenizer_prune(config)
    assert token in load_tokenizer(tmp_path / "small").get_vocab()
    wishes.write_text("nobody\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"keep\.txt:1: the vocabulary has no token 'nobody'"):
        tokenizer_prune(config.model_copy(update={"out": tmp_path / "other"}))


def test_what_would_change_nothing_is_refused(tmp_path: Path) -> None:
    model, empty, out = tiny_model(tmp_path / "model"), tmp_path / "empty.txt", tmp_path / "out"
    empty.touch()
    extend = TokenizerExtendConfig(tokenizer=model, model=model, text=[empty], out=out)
    with pytest.raises(DataError, match="no tokens to add"):
        tokenizer_extend(extend)
    with pytest.raises(DataError, match="the text uses none"):
        tokenizer_prune(TokenizerPruneConfig(tokenizer=model, text=[empty], out=out))
    assert not out.exists()


def test_a_loss_on_nothing_is_refused(tmp_path: Path, poem: Path) -> None:
    model, empty, other = tiny_model(tmp_path / "model"), tmp_path / "empty.txt", tmp_path / "other"
    empty.touch()
    tokenizer_extend(TokenizerExtendConfig(tokenizer=model, text=[poem], add=30, out=other))
    config = TokenizerExtendConfig(
        tokenizer=model,
        model=model,
        pieces=other,
        text=[empty],
        compare=True,
        out=tmp_path / "out",
    )
    with pytest.raises(DataError, match="too short to measure a loss on"):
        tokenizer_extend(config)
    with pytest.raises(ModelError, match="is not that of the tokenizer in"):
        tokenizer_extend(config.model_copy(update={"tokenizer": other}))


def test_a_list_that_is_not_utf_8(tmp_path: Path) -> None:
    model, wishes = tiny_model(tmp_path / "model"), tmp_path / "keep.txt"
    wishes.write_bytes("天".encode("gb18030"))
    with pytest.raises(DataError, match=r"keep\.txt is not UTF-8"):
        tokenizer_prune(TokenizerPruneConfig(tokenizer=model, keep=wishes, out=tmp_path / "out"))


def test_mistakes_are_told_before_anything_is_read(tmp_path: Path) -> None:
    nowhere, out = tmp_path / "nowhere", tmp_path / "out"
    with pytest.raises(ConfigError, match="nothing says which tokens stay"):
        tokenizer_prune(TokenizerPruneConfig(tokenizer=nowhere, out=out))
    with pytest.raises(ConfigError, match="--compare measures a model"):
        tokenizer_extend(TokenizerExtendConfig(tokenizer=nowhere, out=out, compare=True))
    out.mkdir()
    (out / "file").touch()
    with pytest.raises(DataError, match="exists already"):
        tokenizer_prune(TokenizerPruneConfig(tokenizer=nowhere, out=out))
