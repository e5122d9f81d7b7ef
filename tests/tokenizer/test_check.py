"""Every mistake that `tokenizer check` knows is found where it was made, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tongwen.config import TokenizerCheckConfig
from tongwen.testing import tiny_model
from tongwen.tokenizer import load_tokenizer, save_tokenizer, tokenizer_check
from tongwen.tokenizer.check import TokenizerCheckResult


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps(content), encoding="utf-8")


def check(path: Path) -> TokenizerCheckResult:
    return tokenizer_check(TokenizerCheckConfig(tokenizer=path))


def found(path: Path, severity: str) -> list[str]:
    return [finding.what for finding in check(path).findings if finding.severity == severity]


def test_a_model_of_ours_is_sound(model: Path) -> None:
    result = check(model)
    assert result.ok
    assert {finding.severity for finding in result.findings} == {"note"}
    assert (result.bos, result.eos) == ("<|endoftext|>", "<|im_end|>")
    assert (result.added_in_front, result.added_behind) == ((), ())
    assert str(result).splitlines()[-1].endswith("0 errors, 0 warnings, 2 notes")


def test_end_tokens_that_differ(model: Path) -> None:
    change(model / "generation_config.json", eos_token_id=0)
    errors = found(model, "error")
    assert any("generation_config.json says eos is 0" in error for error in errors)
    assert any("ends an answer with 2 “<|im_end|>”, generation stops at 0" in e for e in errors)
    change(model / "generation_config.json", eos_token_id=[0, 2])
    assert found(model, "error") == []


def test_ids_outside_of_the_model(model: Path) -> None:
    change(model / "config.json", vocab_size=200, eos_token_id=50_000)
    errors = found(model, "error")
    assert any("ids up to 258, the model has 200 rows" in error for error in errors)
    assert any("eos is 50000, outside" in error for error in errors)


def test_the_ids_of_early_llama_conversions(llama: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(llama)
    tokenizer.bos_token, tokenizer.eos_token = "<unk>", "<s>"
    save_tokenizer(tokenizer, tmp_path / "decapoda")
    errors = found(tmp_path / "decapoda", "error")
    assert any("bos is 0 “<unk>”, but the vocabulary has 1 “<s>”" in error for error in errors)
    assert any("eos is 1 “<s>”, but the vocabulary has 2 “</s>”" in error for error in errors)
    assert found(llama, "error") == []


def test_padding_that_hides_the_end(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    tokenizer.pad_token = tokenizer.eos_token
    save_tokenizer(tokenizer, model)
    assert any("never learns to stop" in warning for warning in found(model, "warning"))


@pytest.mark.parametrize(
    ("template", "finding"),
    [
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "not with a control token"),
        ("{{ messages[0]['content'] }}", "loses the answer"),
        ("{{ raise_exception('no') }}", "template fails"),
    ],
)
def test_templates_that_do_not_end_an_answer(model: Path, template: str, finding: str) -> None:
    tokenizer = load_tokenizer(model)
    tokenizer.chat_template = template
    save_tokenizer(tokenizer, model)
    assert any(finding in error for error in found(model, "error"))


def test_two_tokens_in_front(llama: Path, tmp_path: Path) -> None:
    from tongwen.tokenizer.convert import piece_tokenizer
    from tongwen.tokenizer.pieces import read_pieces

    tokenizer = piece_tokenizer(read_pieces(llama), add_bos=True)
    tokenizer.chat_template = (
        "{{ '<s>' }}{% for m in messages %}{{ m['content'] + '</s>' }}{% endfor %}"
    )
    save_tokenizer(tokenizer, tmp_path / "double")
    assert check(tmp_path / "double").added_in_front == ("<s>",)
    assert any("begins with two" in warning for warning in found(tmp_path / "double", "warning"))


def test_texts_that_do_not_come_back(tmp_path: Path, train_reference: Any) -> None:
    path = tmp_path / "nfkc.model"
    path.write_bytes(train_reference("unigram"))
    warnings = found(path, "warning")
    damaged = {warning.partition(":")[0] for warning in warnings}
    assert {"full width", "newlines", "blanks", "rare Hanzi"} <= damaged
    assert any("with unknown tokens" in warning for warning in warnings)


def test_no_end_token_at_all(tmp_path: Path, byte_level: PreTrainedTokenizerFast) -> None:
    save_tokenizer(byte_level, tmp_path / "t")
    change(tmp_path / "t" / "tokenizer_config.json", eos_token="")
    errors = found(tmp_path / "t", "error")
    assert any("names an empty eos token" in error for error in errors)
