"""The figures of `tokenizer report` are what their names say."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tongwen.config import TokenizerReportConfig
from tongwen.errors import DataError
from tongwen.messages import encode_text
from tongwen.tokenizer import save_tokenizer, tokenizer_report
from tongwen.tokenizer.report import hanzi_basic, hanzi_level1


@pytest.fixture
def folder(tmp_path: Path, byte_level: PreTrainedTokenizerFast) -> Path:
    save_tokenizer(byte_level, tmp_path / "ours")
    return tmp_path / "ours"


def test_figures_of_files(
    folder: Path, llama: Path, tmp_path: Path, byte_level: PreTrainedTokenizerFast
) -> None:
    plain, rows = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_bytes("今天天气很好\r\n去公园".encode())
    rows.write_text(
        '{"instruction": "读书", "output": "the park"}\n{"instruction": ""}\n', encoding="utf-8"
    )
    result = tokenizer_report(TokenizerReportConfig(tokenizers=[folder, llama], text=[plain, rows]))
    ours, theirs = result.tokenizers
    first, second = ours.texts
    text = "今天天气很好\n去公园"
    tokens = len(encode_text(byte_level, text))
    assert (first.text, first.characters, first.bytes, first.tokens) == ("a", 10, 28, tokens)
    assert first.tokens_per_character == tokens / 10
    assert first.characters_per_token == 10 / tokens
    assert first.bytes_per_token == 28 / tokens
    assert second.characters == len("读书\nthe park")
    assert theirs.vocab_size == 450
    assert set(result.definitions) >= {"tokens_per_character", "hanzi_level1"}


def test_only_the_first_characters_count(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("天" * 1000, encoding="utf-8")
    config = TokenizerReportConfig(tokenizers=[folder], text=[path], characters=100)
    assert tokenizer_report(config).tokenizers[0].texts[0].characters == 100


def test_hanzi_are_those_of_the_standards() -> None:
    assert (len(hanzi_level1()), len(hanzi_basic())) == (3755, 20992)
    assert hanzi_level1()[0] + hanzi_level1()[-1] == "啊座"
    assert len(set(hanzi_level1())) == 3755


def test_shares_of_hanzi(folder: Path, byte_level: PreTrainedTokenizerFast) -> None:
    result = tokenizer_report(TokenizerReportConfig(tokenizers=[folder]))
    single = sum(len(encode_text(byte_level, char)) == 1 for char in hanzi_level1())
    assert single > 5
    assert result.tokenizers[0].hanzi_level1 == single / 3755
    assert [text.text for text in result.tokenizers[0].texts] == ["zh", "en", "code"]


def test_unknown_tokens_are_counted(tmp_path: Path, train_reference: object) -> None:
    assert callable(train_reference)
    path, text = tmp_path / "no-bytes.model", tmp_path / "rare.txt"
    path.write_bytes(train_reference("unigram"))
    text.write_text("the 龘 park 龘", encoding="utf-8")
    result = tokenizer_report(TokenizerReportConfig(tokenizers=[path], text=[text]))
    assert result.tokenizers[0].texts[0].unknown_tokens == 2


def test_the_page_is_whole(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = tokenizer_report(TokenizerReportConfig(tokenizers=[folder], html=page))
    content = page.read_text(encoding="utf-8")
    HTMLParser().feed(content)
    assert str(result) == str(page)
    for text in result.tokenizers[0].texts:
        assert f"{text.tokens_per_character:.3f}" in content
    assert "http" not in content


def test_an_empty_text_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="no text"):
        tokenizer_report(TokenizerReportConfig(tokenizers=[folder], text=[path]))
