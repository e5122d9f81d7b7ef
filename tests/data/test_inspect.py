"""`data inspect`: shown is what is trained on, readable with and without colour."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.config import DataInspectConfig, DataPrepareConfig
from tongwen.data import data_inspect, data_prepare
from tongwen.data.view import Pieces, Shown, View
from tongwen.errors import ConfigError, DataError
from tongwen.messages import encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROWS = [
    {"instruction": "天气", "input": "", "output": "很好。"},
    {"instruction": "no answer"},
    {"instruction": "龘?", "input": "", "output": "🌍\nThe fox"},
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_file_as_it_is_shown(
    source: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = data_inspect(DataInspectConfig(source=source, tokenizer=tokenizer_folder))
    said = capsys.readouterr()
    assert said.out == SHOWN
    legend, rejected = said.err.splitlines()
    assert legend == "trained tokens stand in ⟦ ⟧; │ parts tokens, ↵ is a newline"
    assert rejected.startswith(f"{source}:2: the key 'output' is missing")
    assert [item.place for item in result.items] == ["rows.jsonl line 1", "rows.jsonl line 3"]


SHOWN = """\
── rows.jsonl line 1 · zh · 23 tokens, 3 trained · 22 characters, 0.96 per token
<|im_start|>│u│s│er│↵
天气│<|im_end|>│↵
<|im_start|>│a│s│s│i│s│t│a│n│t│↵
⟦很好│。│<|im_end|>⟧↵


── rows.jsonl line 3 · en · 31 tokens, 8 trained · 28 characters, 0.9 per token
<|im_start|>│u│s│er│↵
龘│?│<|im_end|>│↵
<|im_start|>│a│s│s│i│s│t│a│n│t│↵
⟦🌍│↵
The│ fox│<|im_end|>⟧↵


"""


def test_a_prepared_folder(
    source: Path, tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    data_prepare(
        DataPrepareConfig(sources=[source], out=out, tokenizer=tokenizer_folder, hold_out=0)
    )
    data_inspect(DataInspectConfig(source=source, tokenizer=tokenizer_folder))
    raw = capsys.readouterr().out
    result = data_inspect(DataInspectConfig(source=out))
    prepared = capsys.readouterr().out
    assert (
        prepared.replace("train 1 of 2", "rows.jsonl line 1").replace(
            "train 2 of 2", "rows.jsonl line 3"
        )
        == raw
    )
    assert [item.place for item in result.items] == ["train 1 of 2", "train 2 of 2"]
    assert len(data_inspect(DataInspectConfig(source=out, samples=1)).items) == 1
    with pytest.raises(DataError, match="has no held_out rows"):
        data_inspect(DataInspectConfig(source=out, held_out=True))


@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_no_character_is_shown_broken(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = np.array(encode_text(tokenizer, text))
    shown = View(Pieces(tokenizer)).text(Shown("", ids, np.zeros(len(ids), dtype=np.bool_), "zh"))
    assert shown.plain.replace("│", "") == text.replace("│", "")


def test_bytes_that_are_no_character_are_shown_as_such(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = np.array(encode_text(tokenizer, "龘")[:2])
    shown = View(Pieces(tokenizer)).text(Shown("", ids, np.zeros(len(ids), dtype=np.bool_), "zh"))
    assert shown.plain == r"\xe9\xbe"


def test_the_middle_of_a_long_stretch_is_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = np.array(encode_text(tokenizer, "1" * 1000))
    shown = View(Pieces(tokenizer)).text(Shown("", ids, np.ones(len(ids), dtype=np.bool_), "zh"))
    assert "│⋯ 780 tokens ⋯│" in shown.plain
    assert shown.plain.count("1") == 220


def test_colour(
    source: Path,
    tokenizer_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = DataInspectConfig(source=source, tokenizer=tokenizer_folder, samples=1)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    data_inspect(config)
    coloured = capsys.readouterr().out
    assert "\x1b[1;32m很好" in coloured
    assert "⟦" not in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    data_inspect(config)
    plain = capsys.readouterr().out
    assert "32m" not in plain
    assert "⟦很" in plain


class Spans(HTMLParser):
    """The spans of tokens in a page: title, classes, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, set[str], str]] = []
        self._text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "span" and (title := named.get("title")):
            self.found.append((title, set((named.get("class") or "").split()), ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            title, classes, text = self.found[-1]
            self.found[-1] = (title, classes, text + data)


def test_a_page(source: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.html"
    config = DataInspectConfig(source=source, model=tokenizer_folder, html=path, samples=2)
    result = data_inspect(config)
    page = path.read_text(encoding="utf-8")
    spans = Spans(page).found
    assert result.html == path
    assert len(spans) == sum(item.tokens for item in result.items)
    trained = [(title, text) for title, classes, text in spans if "trained" in classes]
    assert len(trained) == sum(item.trained_tokens for item in result.items)
    assert trained[2][0] == "id 2"
    assert trained[2][1].startswith("<|im_end|>")
    assert "".join(text for _, text in trained[:2]) == "很好。"
    assert page.count("<section>") == 2
    assert "http" not in page
    assert "<script" not in page


def test_text_cannot_break_out_of_the_page(tokenizer_folder: Path, tmp_path: Path) -> None:
    source, path = tmp_path / "rows.jsonl", tmp_path / "rows.html"
    row = {"instruction": "<script>alert(1)</script>", "input": "", "output": "&amp; </pre>"}
    source.write_text(json.dumps(row), encoding="utf-8")
    data_inspect(DataInspectConfig(source=source, tokenizer=tokenizer_folder, html=path))
    assert "<script" not in path.read_text(encoding="utf-8")


def test_another_template(
    source: Path, tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DataInspectConfig(
        source=source, model=tokenizer_folder, template="vicuna-chat", samples=1
    )
    data_inspect(config)
    shown = capsys.readouterr().out.replace("│", "")
    assert "User:天气↵\n↵\nAssistant:⟦很好。<|im_end|>⟧" in shown


def test_mistakes_are_refused(source: Path, tmp_path: Path, tokenizer_folder: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer is given"):
        data_inspect(DataInspectConfig(source=source))
    both = DataInspectConfig(source=source, tokenizer=tokenizer_folder, model=tokenizer_folder)
    with pytest.raises(ConfigError, match="say the same"):
        data_inspect(both)
    with pytest.raises(ConfigError, match="has no held-out rows"):
        data_inspect(DataInspectConfig(source=source, tokenizer=tokenizer_folder, held_out=True))
    with pytest.raises(DataError, match="is not a prepared folder"):
        data_inspect(DataInspectConfig(source=tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        data_inspect(DataInspectConfig(source=tmp_path / "no.txt", tokenizer=tokenizer_folder))
