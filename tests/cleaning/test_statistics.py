"""Counts that add up, and a page that shows them and needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen import charts
from tongwen.charts import Slice
from tongwen.cleaning.findings import Action, Finding
from tongwen.cleaning.report import BenchmarkLine, ReasonLine, Report, SourceLine, write_report
from tongwen.cleaning.statistics import EDGES, EXAMPLES, Statistics, bin_names, bin_of, measure
from tongwen.messages.conversation import Conversation, Document, Message

ACTIONS: tuple[Action, ...] = ("filtered", "mended", "noted")


def talk(*turns: str) -> Conversation:
    return Conversation(
        tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns))
    )


def counted(rows: list[tuple[str, int, str]]) -> Statistics:
    counts = Statistics()
    for number, (text, tokens, rule) in enumerate(rows):
        counts.count(measure(Document(text)), "text", tokens)
        if rule:
            counts.find([Finding(rule, ACTIONS[tokens % 3], f"{tokens}", text)], f"a.txt:{number}")
    return counts


ROWS = st.lists(
    st.tuples(
        st.text(st.sampled_from("天地玄黃宇宙 abc。\n"), max_size=300),
        st.integers(0, 50_000),
        st.sampled_from(["", "leaks", "unicode"]),
    ),
    max_size=12,
)


@given(ROWS)
def test_every_histogram_adds_up(rows: list[tuple[str, int, str]]) -> None:
    counts = counted(rows)
    assert counts.items == len(rows) == counts.items_by_characters.total()
    assert counts.characters == sum(len(text) for text, _, _ in rows)
    assert counts.characters_by_characters.total() == counts.characters
    assert counts.tokens_by_tokens.total() == counts.tokens == sum(row[1] for row in rows)
    assert counts.language_characters.total() == counts.characters


def test_bins() -> None:
    assert [bin_of(n) for n in (0, 15, 16, 31, 32)] == [0, 0, 1, 1, 2]
    assert EDGES[-8:] == tuple(n * 4096 for n in range(1, 9))
    assert bin_of(10**9) == len(EDGES) - 1 == bin_of(32768)
    assert bin_of(32767) == len(EDGES) - 2
    assert bin_names()[bin_of(4095)] == "< 4k"
    assert bin_names()[bin_of(4096)] == "< 8k"
    assert bin_names()[-1] == "≥ 32k"


def test_what_is_counted() -> None:
    counts = Statistics()
    counts.count(measure(talk("你好", "你们好，有什么可以帮你的？", "没有", "好")), "sharegpt")
    counts.count(measure(Document("這個問題後來還沒有解決")), "text")
    counts.count(measure(Document("The weather is fine.")), "text")
    assert dict(counts.languages) == {"zh": 2, "en": 1}
    assert dict(counts.scripts) == {"simplified": 1, "traditional": 1}
    assert dict(counts.layouts) == {"sharegpt": 1, "text": 2}
    assert dict(counts.turns) == {2: 1}
    assert counts.to_record()["tokens"] is None


def test_examples_are_few_and_the_first() -> None:
    counts = Statistics()
    finding = Finding("leaks", "filtered", "detail", "excerpt")
    for line in range(100):
        counts.find([finding, finding], f"a.jsonl:{line}")
    assert counts.findings["leaks", "filtered"] == 100
    places = [example.place for example in counts.examples["leaks", "filtered"]]
    assert places == [f"a.jsonl:{line}" for line in range(EXAMPLES)]


OPTIONAL = {"li", "tr", "td", "th", "html"}


class Checker(HTMLParser):
    """Collects tags that close what is not open, and everything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe", "object"}:
            self.fetched.append(tag)
        self.fetched += [name for name, _ in attrs if name in {"src", "href", "xlink:href"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL:
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def page(path: Path, report: Report) -> tuple[str, Checker]:
    write_report(path, report)
    text = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    return text, checker


@pytest.fixture
def report() -> Report:
    counts = counted(
        [("天地玄黃，宇宙洪荒。" * 20, 150, "leaks"), ("<script>alert(1)</script>", 9, "unicode")]
    )
    counts.count(measure(talk("你好", "好")), "alpaca", 4)
    rows = {"used": 3, "held_out": 1, "duplicates": 2, "filtered": 1, "rejected": 1}
    return Report(
        title="<b>corpus</b> & more",
        rows=rows,
        statistics=counts,
        sources=[SourceLine("a/<i>.jsonl", "jsonl", {"alpaca": 8}, rows)],
        reasons=[ReasonLine("rejected", "no <answer>", 1, "a.jsonl:7")],
        benchmarks=[BenchmarkLine("gsm8k", 1319, 3, 4)],
    )


def test_the_page_is_whole_and_fetches_nothing(tmp_path: Path, report: Report) -> None:
    text, checker = page(tmp_path / "report.html", report)
    assert checker.wrong == []
    assert checker.fetched == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert "<script>alert" not in text
    assert "<b>corpus</b>" not in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_the_page_shows_what_was_counted(tmp_path: Path, report: Report) -> None:
    _, checker = page(tmp_path / "report.html", report)
    for shown in (
        "<b>corpus</b> & more", "8 rows in", "held out", "alert(1)", "a.txt:1", "leaks",
        "no <answer>", "a.jsonl:7", "gsm8k", "1,319", "0.2 %", "a/<i>.jsonl", "行行有交代",
    ):  # fmt: skip
        assert shown in checker.text, shown


def test_the_same_report_gives_the_same_bytes(tmp_path: Path, report: Report) -> None:
    write_report(tmp_path / "a.html", report)
    write_report(tmp_path / "b.html", report)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_empty_corpus_has_a_page(tmp_path: Path) -> None:
    _, checker = page(tmp_path / "report.html", Report("nothing", {"rejected": 2}, Statistics()))
    assert checker.wrong == []
    assert "2 rows in" in checker.text


def test_the_record_is_json() -> None:
    record = counted([("天地玄黃", 3, "leaks")]).to_record()
    assert json.loads(json.dumps(record, ensure_ascii=False)) == record


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 5, "0.0 %"),
        (1, 3, "33.3 %"),
        (1, 10**6, "< 0.1 %"),
        (10**6 - 1, 10**6, "> 99.9 %"),
        (0, 0, "0.0 %"),
    ],
)
def test_shares_never_say_nothing_for_something(part: int, whole: int, shown: str) -> None:
    assert charts.percent(part, whole) == shown


def test_a_slice_too_thin_to_see_is_drawn() -> None:
    drawing = charts.stacked_bar([Slice("much", 10**9, 0), Slice("one", 1, 1)])
    widths = [float(width) for width in re.findall(r"<rect [^>]*?width=([\d.]+)", drawing)]
    assert len(widths) == 2
    assert min(widths) >= 2
