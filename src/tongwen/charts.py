"""Pictures for reports: one page of HTML with drawings in it that needs nothing else.

Every function returns HTML or SVG as text; names and labels are escaped here, numbers are written
with thousands marks. Colours are CSS variables, so that a page follows the reader's light or dark
setting and prints on white.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from math import cos, pi, sin
from typing import Final, NamedTuple

WIDTH: Final = 640
"""Units of the drawings; on a page they are as wide as their column."""
STYLE: Final = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #17202e; --soft: #5b6675;
  --line: #dfe4ea; --c0: #1f7a8c; --c1: #7fb7be; --c2: #e0a030; --c3: #8d6bb8; --c4: #c8553d;
  --c5: #4a6fa5; --c6: #93a1b0; --c7: #5a9367 }
@media (prefers-color-scheme: dark) { :root { --page: #10151c; --card: #18202a; --ink: #e6ebf1;
  --soft: #97a3b2; --line: #2b3644; --c0: #3fa7ba; --c1: #2d6f7a; --c2: #e5b04f; --c3: #a98bd0;
  --c4: #e07a63; --c5: #7797cc; --c6: #67788b; --c7: #7cb98a } }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC",
  "Microsoft YaHei", sans-serif; background: var(--page); color: var(--ink); margin: 0 }
.page { max-width: 1180px; margin: 0 auto; padding: 2.2rem 1.4rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0; letter-spacing: -.01em;
  overflow-wrap: anywhere }
h2 { font-size: 1.05rem; margin: 2.4rem 0 .8rem } h2 small, figcaption small { color: var(--soft);
  font-weight: 400; margin-left: .5em }
.sub { color: var(--soft); margin: .2rem 0 1.4rem }
.card, figure { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.2rem; margin: 0 }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr));
  gap: 1rem } .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
  gap: 1rem; margin-bottom: 1rem } .tile b { display: block; font-size: 1.65rem; line-height: 1.2;
  font-variant-numeric: tabular-nums } .tile span { color: var(--soft); font-size: .85rem }
figcaption { font-weight: 600; margin-bottom: .6rem } svg { width: 100%; height: auto;
  display: block } svg text { font: 11px system-ui, "Noto Sans CJK SC", sans-serif;
  fill: var(--soft) } svg .strong { fill: var(--ink); font-weight: 600 }
svg line { stroke: var(--line) }
.legend { display: flex; flex-wrap: wrap; gap: .35rem 1.3rem; margin: .8rem 0 0; padding: 0;
  list-style: none; font-size: .88rem } .legend i { display: inline-block; width: .75em;
  height: .75em; border-radius: 3px; margin-right: .45em } .legend span { color: var(--soft) }
table { border-collapse: collapse; width: 100%; font-size: .88rem } th { text-align: left;
  color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line) } td, th {
  padding: .4rem .9rem .4rem 0; vertical-align: top } tr + tr td { border-top: 1px solid
  var(--line) } .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.wide { width: 99%; overflow-wrap: anywhere } .tag { border-radius: 99px; padding: .05rem .55rem;
  font-size: .78rem; color: #fff; white-space: nowrap } .scroll { overflow-x: auto }
details { margin-top: .35rem } summary { cursor: pointer; color: var(--soft) }
blockquote { margin: .45rem 0; padding: .1rem 0 .1rem .8rem; border-left: 3px solid var(--line);
  overflow-wrap: anywhere } blockquote cite { display: block; color: var(--soft);
  font-style: normal; font-size: .8rem } .c0 { fill: var(--c0); background: var(--c0) }
.c1 { fill: var(--c1); background: var(--c1) } .c2 { fill: var(--c2); background: var(--c2) }
.c3 { fill: var(--c3); background: var(--c3) } .c4 { fill: var(--c4); background: var(--c4) }
.c5 { fill: var(--c5); background: var(--c5) } .c6 { fill: var(--c6); background: var(--c6) }
.c7 { fill: var(--c7); background: var(--c7) }
@media print { :root { --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc }
  .page { max-width: none; padding: 0 } .card, figure, tr { break-inside: avoid }
  * { print-color-adjust: exact } details::details-content { content-visibility: visible;
  display: block; height: auto } }
"""


class Slice(NamedTuple):
    """A part of a whole."""

    name: str
    value: int
    colour: int
    """Which of the eight colours, from 0."""


def page(title: str, subtitle: str, body: str) -> str:
    """A whole HTML page."""
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>\n"
        f"<div class=page><h1>{html.escape(title)}</h1><p class=sub>{html.escape(subtitle)}</p>\n"
        f"{body}</div></html>\n"
    )


def heading(english: str, chinese: str) -> str:
    """A heading in both languages."""
    return f"<h2>{html.escape(english)}<small lang=zh>{html.escape(chinese)}</small></h2>\n"


def figure(english: str, chinese: str, drawing: str) -> str:
    """A drawing with its title in both languages."""
    title = f"{html.escape(english)}<small lang=zh>{html.escape(chinese)}</small>"
    return f"<figure><figcaption>{title}</figcaption>{drawing}</figure>\n"


def tiles(numbers: Mapping[str, str]) -> str:
    """Big numbers with a word under each."""
    cells = "".join(
        f"<div class='card tile'><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>"
        for name, value in numbers.items()
    )
    return f"<div class=tiles>{cells}</div>\n"


def stacked_bar(slices: Sequence[Slice]) -> str:
    """One bar of all slices side by side, with a legend of names, values and shares."""
    total = sum(one.value for one in slices) or 1
    left, parts = 0.0, []
    for one in slices:
        # A slice too thin to be seen is still there: it is drawn two units wide.
        width = max(2.0, one.value / total * WIDTH) if one.value else 0.0
        parts.append(
            f"<rect class=c{one.colour} x={left:.1f} width={width:.1f} height=34>"
            f"<title>{_label(one, total)}</title></rect>"
        )
        left += width
    drawing = (
        f'<svg viewBox="0 0 {max(WIDTH, left):.1f} 34" role=img preserveAspectRatio=none '
        f'style="height:34px;border-radius:8px">{"".join(parts)}</svg>'
    )
    return drawing + legend(slices)


def donut(slices: Sequence[Slice], middle: str) -> str:
    """A ring of slices around a word, with a legend."""
    total = sum(one.value for one in slices)
    parts, begin = [], 0.0
    for one in slices:
        share = one.value / total if total else 0.0
        if share:
            parts.append(
                f'<path class=c{one.colour} d="{_ring(begin, begin + share)}">'
                f"<title>{_label(one, total)}</title></path>"
            )
        begin += share
    text = f"<text class=strong x=90 y=95 text-anchor=middle>{html.escape(middle)}</text>"
    drawing = '<svg viewBox="0 0 180 180" role=img style="max-width:200px;margin:auto">'
    return f"{drawing}{''.join(parts)}{text}</svg>{legend(slices)}"


def columns(labels: Sequence[str], series: Mapping[str, Sequence[int]], unit: str) -> str:
    """Groups of columns, one group for each label and one column in it for each series, as shares
    of the series; the legend has the totals."""
    top, bottom, height, margin = 18, 52, 240, 22
    shares = {name: [value / (sum(of) or 1) for value in of] for name, of in series.items()}
    most = max((share for of in shares.values() for share in of), default=0.0) or 1.0
    step = (WIDTH - margin) / max(1, len(labels))
    width = min(34.0, step * 0.78 / len(series))
    base = height - bottom
    parts = [f"<line x1={margin} x2={WIDTH} y1={base} y2={base} />"]
    for group, label in enumerate(labels):
        middle = margin + (group + 0.5) * step
        for colour, (name, of) in enumerate(shares.items()):
            tall = of[group] / most * (base - top)
            left = middle + (colour - len(series) / 2) * width
            value = f"{label} {unit}: {series[name][group]:,} {name} ({of[group]:.1%})"
            parts.append(
                f"<rect class=c{colour} x={left:.1f} y={base - tall:.1f} width={width - 1:.1f} "
                f"height={tall:.1f} rx=2><title>{html.escape(value)}</title></rect>"
            )
            if len(series) == 1 and of[group] >= 0.005:
                parts.append(
                    f"<text x={middle:.1f} y={base - tall - 4:.1f} text-anchor=middle>"
                    f"{of[group]:.0%}</text>"
                )
        turn = f' transform="rotate(-38 {middle:.1f} {base + 14})" text-anchor=end'
        plain = " text-anchor=middle"
        parts.append(
            f"<text x={middle:.1f} y={base + 14}{plain if step > 44 else turn}>"
            f"{html.escape(label)}</text>"
        )
    drawing = f'<svg viewBox="0 0 {WIDTH} {height}" role=img>{"".join(parts)}</svg>'
    totals = [Slice(name, sum(of), colour) for colour, (name, of) in enumerate(series.items())]
    return drawing + legend(totals, shares=False)


def bars(rows: Sequence[Slice]) -> str:
    """A horizontal bar for each row, with its name before it and its value behind it."""
    most = max((row.value for row in rows), default=0) or 1
    tall, left, right = 24, 190, 80
    parts = []
    for place, row in enumerate(rows):
        y = place * tall
        width = max(1.5, row.value / most * (WIDTH - left - right)) if row.value else 0
        parts.append(
            f"<text class=strong x={left - 10} y={y + 16} text-anchor=end>"
            f"{html.escape(_short(row.name))}<title>{html.escape(row.name)}</title></text>"
            f"<rect class=c{row.colour} x={left} y={y + 4} width={width:.1f} height={tall - 8} "
            f"rx=3></rect><text x={left + width + 8:.1f} y={y + 16}>{row.value:,}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {len(rows) * tall}" role=img>{"".join(parts)}</svg>'


def table(head: Sequence[str], rows: Sequence[Sequence[str | int]], wide: int = 0) -> str:
    """A table; text cells are HTML already, numbers stand right. The column `wide` takes the room
    that is left."""
    numeric = [
        bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(head))
    ]
    kinds = [" class=n" if number else "" for number in numeric]
    kinds[wide] = kinds[wide] or " class=wide"
    first = "".join(
        f"<th{kind}>{html.escape(name)}" for kind, name in zip(kinds, head, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(cell)}" for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    return f"<div class='card scroll'><table><tr>{first}{body}</table></div>\n"


def legend(slices: Sequence[Slice], *, shares: bool = True) -> str:
    """What the colours mean."""
    total = sum(one.value for one in slices) or 1
    items = (
        f"<li><i class=c{one.colour}></i>{html.escape(one.name)} <span>{one.value:,}"
        f"{f' · {percent(one.value, total)}' if shares else ''}</span>"
        for one in slices
    )
    return f"<ul class=legend>{''.join(items)}</ul>"


def tag(text: str, colour: int) -> str:
    """A word on a coloured ground."""
    return f"<span class='tag c{colour}'>{html.escape(text)}</span>"


def percent(part: int, whole: int) -> str:
    """A share with as many digits as tell it from nothing and from all."""
    share = part / whole if whole else 0.0
    if part and share < 0.001:
        return "< 0.1 %"
    if part != whole and share > 0.999:
        return "> 99.9 %"
    return f"{share:.1%}".replace("%", " %")


def _cell(cell: str | int) -> str:
    return f"{cell:,}" if isinstance(cell, int) else cell


def _label(one: Slice, total: int) -> str:
    return f"{html.escape(one.name)}: {one.value:,} ({percent(one.value, total)})"


def _short(text: str) -> str:
    return text if len(text) <= 28 else f"{text[:27]}…"


def _ring(begin: float, end: float, outer: float = 84, inner: float = 56) -> str:
    """The outline of a part of a ring around (90, 90), from and to shares of a turn."""
    end = min(end, begin + 0.9999)  # a whole turn would end where it begins and be nothing

    def place(share: float, radius: float) -> str:
        angle = (share - 0.25) * 2 * pi
        return f"{90 + radius * cos(angle):.2f} {90 + radius * sin(angle):.2f}"

    large = int(end - begin > 0.5)
    return (
        f"M {place(begin, outer)} A {outer} {outer} 0 {large} 1 {place(end, outer)} "
        f"L {place(end, inner)} A {inner} {inner} 0 {large} 0 {place(begin, inner)} Z"
    )
