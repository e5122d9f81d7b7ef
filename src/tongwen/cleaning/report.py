"""`report.html`: what became of the rows and what is in them, to be looked at.

One file that needs nothing else: no script, no font, no address. It follows the reader's light or
dark setting and can be printed.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tongwen import charts
from tongwen.charts import Slice
from tongwen.cleaning.statistics import EDGES, SHARES, TURNS, Statistics, bin_names
from tongwen.files import write_whole

OUTCOMES: Final = ("used", "held_out", "duplicates", "filtered", "rejected")
ACTIONS: Final = {"filtered": 3, "mended": 0, "noted": 6}
LANGUAGES: Final = {
    "zh": "Chinese 中文",
    "en": "English 英文",
    "mixed": "mixed 混合",
    "other": "other 其他",
}
SCRIPTS: Final = {
    "simplified": "simplified 简体",
    "traditional": "traditional 繁体",
    "both": "both 混用",
}
REASONS: Final = 40
"""Reasons that are listed; the rest are in rejects.jsonl."""


@dataclass(frozen=True)
class SourceLine:
    """A source and what became of its rows."""

    file: str
    form: str
    """How it was read: jsonl, csv, …, with the encoding where that is worth a word."""
    layouts: Mapping[str, int]
    rows: Mapping[str, int]
    """Rows of each of OUTCOMES."""


@dataclass(frozen=True)
class ReasonLine:
    """Why rows are not used."""

    outcome: str
    reason: str
    rows: int
    first: str
    """`FILE:LINE` of the first of them."""


@dataclass(frozen=True)
class BenchmarkLine:
    """A benchmark that the rows were searched for."""

    name: str
    items: int
    found: int
    """Items that stand in the rows."""
    rows: int
    """Rows that were filtered for it."""


@dataclass(frozen=True)
class Report:
    """Everything that the page shows."""

    title: str
    rows: Mapping[str, int]
    """Rows of each of OUTCOMES; together they are the rows that came in."""
    statistics: Statistics
    sources: Sequence[SourceLine] = ()
    reasons: Sequence[ReasonLine] = ()
    benchmarks: Sequence[BenchmarkLine] = ()


def write_report(path: Path, report: Report) -> None:
    """Write the page; the same report gives the same bytes."""
    total = sum(report.rows.values())
    body = "".join(
        [
            _numbers(report, total),
            _accounting(report),
            _pictures(report.statistics),
            _rules(report.statistics),
            _reasons(report.reasons),
            _sources(report.sources),
            _benchmarks(report.benchmarks),
        ]
    )
    subtitle = f"{total:,} rows in, every one accounted for · 共 {total:,} 行，行行有交代"
    write_whole(path, charts.page(report.title, subtitle, body))


def _numbers(report: Report, total: int) -> str:
    counts = report.statistics
    used = report.rows.get("used", 0)
    numbers = {
        "rows in 输入行数": f"{total:,}",
        "used 使用": charts.percent(used, total),
        "characters 字符": _big(counts.characters),
    }
    if counts.tokens:
        numbers["tokens 词元"] = _big(counts.tokens)
        numbers["characters per token 每词元字符"] = f"{counts.characters / counts.tokens:.2f}"
    return charts.tiles(numbers)


def _accounting(report: Report) -> str:
    slices = [
        Slice(name.replace("_", " "), report.rows.get(name, 0), colour)
        for colour, name in enumerate(OUTCOMES)
    ]
    return charts.figure("Where the rows went", "每一行的去向", charts.stacked_bar(slices))


def _pictures(counts: Statistics) -> str:
    if not counts.items:
        return ""
    figures = [
        charts.figure("Length in characters", "按字符计的长度", _lengths(counts, "characters")),
    ]
    if counts.tokens:
        drawing = _lengths(counts, "tokens")
        figures.append(charts.figure("Length in tokens", "按词元计的长度", drawing))
    figures.append(charts.figure("Languages, by characters", "语言（按字符）", _languages(counts)))
    if counts.scripts:
        slices = [Slice(SCRIPTS[name], counts.scripts[name], i) for i, name in enumerate(SCRIPTS)]
        figures.append(charts.figure("Chinese script", "简繁", charts.donut(slices, "简 / 繁")))
    if counts.layouts:
        rows = [Slice(name, count, 5) for name, count in counts.layouts.most_common()]
        figures.append(charts.figure("Layouts", "数据格式", charts.bars(rows)))
    if counts.turns:
        names = [*map(str, range(1, TURNS)), f"{TURNS}+"]
        values = [counts.turns[count] for count in range(1, TURNS + 1)]
        drawing = charts.columns(names, {"conversations": values}, "turns")
        figures.append(charts.figure("Turns in a conversation", "对话轮数", drawing))
    if counts.signs:
        names = [f"{100 * i // SHARES}%" for i in range(SHARES)]
        series = {
            "signs 符号": [counts.signs[i] for i in range(SHARES)],
            "said before 重复": [counts.repeated[i] for i in range(SHARES)],
        }
        drawing = charts.columns(names, series, "or more")
        figures.append(
            charts.figure("Share of signs and of repetition", "符号与重复的比例", drawing)
        )
    grid = f"<div class=grid>{''.join(figures)}</div>\n"
    return charts.heading("What is in the rows that are used", "所用数据的面貌") + grid


def _lengths(counts: Statistics, unit: str) -> str:
    """How many items have a length, beside how much of the corpus is in them."""
    items: Mapping[int, int] = getattr(counts, f"items_by_{unit}")
    amounts: Mapping[int, int] = getattr(counts, f"{unit}_by_{unit}")
    filled = [place for place in range(len(EDGES)) if items.get(place)]
    places = range(filled[0], filled[-1] + 1)
    names = bin_names()
    series = {
        "items": [items.get(place, 0) for place in places],
        unit: [amounts.get(place, 0) for place in places],
    }
    return charts.columns([names[place] for place in places], series, unit)


def _languages(counts: Statistics) -> str:
    slices = [
        Slice(name, counts.language_characters[key], colour)
        for (key, name), colour in zip(LANGUAGES.items(), (4, 5, 3, 6), strict=True)
    ]
    return charts.donut(slices, _big(counts.characters))


def _rules(counts: Statistics) -> str:
    if not counts.findings:
        return ""
    rows = [
        (
            f"<b>{html.escape(rule)}</b>{_examples(counts, (rule, action))}",
            charts.tag(action, ACTIONS[action]),
            number,
        )
        for (rule, action), number in sorted(
            counts.findings.items(), key=lambda one: (-one[1], one[0])
        )
    ]
    title = charts.heading("What the rules found", "规则所见")
    return title + charts.table(["rule, with examples", "action", "rows"], rows)


def _examples(counts: Statistics, key: tuple[str, str]) -> str:
    quotes = "".join(
        f"<blockquote>{html.escape(one.excerpt) or '—'}"
        f"<cite>{html.escape(one.place)} · {html.escape(one.detail)}</cite></blockquote>"
        for one in counts.examples.get(key, ())
    )
    return f"<details><summary>examples 例</summary>{quotes}</details>" if quotes else ""


def _reasons(reasons: Sequence[ReasonLine]) -> str:
    if not reasons:
        return ""
    most = sorted(reasons, key=lambda one: (-one.rows, one.outcome, one.reason))
    rows = [
        (
            html.escape(one.reason),
            charts.tag(one.outcome, OUTCOMES.index(one.outcome)),
            html.escape(one.first),
            one.rows,
        )
        for one in most[:REASONS]
    ]
    title = charts.heading("Why rows are not used", "未使用的原因")
    return title + charts.table(["reason", "outcome", "first at", "rows"], rows)


def _sources(sources: Sequence[SourceLine]) -> str:
    if not sources:
        return ""
    rows: list[tuple[str | int, ...]] = []
    for one in sources:
        layouts = ", ".join(f"{name} {count:,}" for name, count in one.layouts.items())
        form = " · ".join(filter(None, (one.form, layouts)))
        name = f"{html.escape(one.file)}<br><small>{html.escape(form)}</small>"
        counts = [one.rows.get(outcome, 0) for outcome in OUTCOMES]
        rows.append((name, sum(counts), *counts))
    head = ["source", "rows in", *(name.replace("_", " ") for name in OUTCOMES)]
    return charts.heading("Sources", "来源") + charts.table(head, rows)


def _benchmarks(benchmarks: Sequence[BenchmarkLine]) -> str:
    if not benchmarks:
        return ""
    rows = [
        (
            html.escape(one.name),
            one.items,
            one.found,
            charts.percent(one.found, one.items),
            one.rows,
        )
        for one in benchmarks
    ]
    title = charts.heading("Benchmarks in the data", "评测集污染")
    head = ["benchmark", "items", "found", "share", "rows filtered"]
    return title + charts.table(head, rows)


def _big(number: int) -> str:
    """A number as it is said: 950, 12.3 k, 4.57 M, 1.02 G."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            return f"{number / (size if unit != 'k' else 1000):.3g} {unit}"
    return f"{number:,}"
