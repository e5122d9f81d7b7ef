"""What `data inspect` shows, as one HTML file that needs nothing else.

Every token is a span with its id in the title; of the tokens that make one character together, the
first shows it and the others are narrow marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Final

from tongwen.data.view import InspectedItem, Piece, Pieces, Shown, shortened
from tongwen.files import write_whole

HEAD: Final = 2_000
TAIL: Final = 1_000

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #6b7280; --paper: #f6f7f9; --card: #fff;
  --line: #e5e7eb; --edge: #0000001f; --trained: #c9f2d6; --trained-ink: #14532d;
  --control: #dbe7ff; --control-ink: #1e40af }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #9ca3af; --paper: #0b1120;
  --card: #151d2e; --line: #263145; --edge: #ffffff24; --trained: #14432a; --trained-ink: #bbf7d0;
  --control: #1e2f57; --control-ink: #bfdbfe } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC",
  "Microsoft YaHei", sans-serif }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; overflow-wrap: anywhere } p { margin: 0 }
.soft { color: var(--soft) }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .55rem 1rem; min-width: 8rem }
.figures b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums }
.legend { display: flex; flex-wrap: wrap; gap: 1.25rem; align-items: center; margin-bottom: 1.5rem }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1rem 1.25rem 1.25rem; margin-bottom: 1.25rem }
h2 { font-size: 1rem; margin: 0 }
.bar { height: 5px; border-radius: 3px; background: var(--line); margin: .6rem 0 .9rem;
  overflow: hidden } .bar i { display: block; height: 100%; background: #22a35a }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2;
  font: 14px/2 ui-monospace, "Cascadia Code", Menlo, "Noto Sans Mono CJK SC", "Noto Sans CJK SC",
  monospace }
.t { border-radius: 3px; padding: .12em 0; box-shadow: inset -1px 0 var(--edge) }
.t:hover { outline: 2px solid #f59e0b }
.t.trained { background: var(--trained); color: var(--trained-ink) }
.t.control { background: var(--control); color: var(--control-ink); border-radius: 5px;
  padding: .12em .3em; font-size: .86em }
.t.trained.control { background: #22a35a; color: #fff }
.t.rest { font-size: .6em; opacity: .6; vertical-align: super }
.n { color: var(--soft); opacity: .7 }
"""


def write_page(path: Path, source: str, shown: Sequence[Shown], pieces: Pieces) -> None:
    """Write the items to an HTML file."""
    counted = [pieces.count(item) for item in shown]
    sections = [
        _section(counts, pieces.of(item)) for counts, item in zip(counted, shown, strict=True)
    ]
    tokens = sum(one.tokens for one in counted)
    trained = sum(one.trained_tokens for one in counted)
    figures = {
        "items shown": f"{len(counted):,}",
        "tokens": f"{tokens:,}",
        "trained": f"{trained:,}",
        "share trained": f"{trained / max(tokens, 1):.1%}",
        "characters": f"{sum(one.characters for one in counted):,}",
    }
    write_whole(
        path,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(source)} · token by token</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{escape(source)}</h1>"
        '<p class="soft">What the model is trained on, token by token. '
        "Point at a token for its id.</p>\n"
        f'<div class="figures">{"".join(_figure(*pair) for pair in figures.items())}</div>\n'
        f'<div class="legend">{LEGEND}</div>\n{"".join(sections)}</body></html>\n',
    )


LEGEND: Final = (
    '<span><span class="t trained">trained</span> carries loss</span>'
    '<span><span class="t trained control">&lt;end&gt;</span> a control token that carries loss'
    '</span><span><span class="t control">&lt;control&gt;</span> written by the template</span>'
    '<span><span class="t">context</span> is read, not learned</span>'
    '<span><span class="n">↵</span> a newline</span>'
)


def _figure(name: str, value: str) -> str:
    return f'<div><b>{value}</b><span class="soft">{name}</span></div>'


def _section(counts: InspectedItem, pieces: list[Piece]) -> str:
    share = counts.trained_tokens / max(counts.tokens, 1)
    runs = groupby(pieces, key=lambda piece: piece.trained)
    kept = [piece for _, run in runs for piece in shortened(list(run), HEAD, TAIL)]
    return (
        f"<section><h2>{escape(counts.place)}</h2>"
        f'<p class="soft">{counts.language} · {counts.tokens:,} tokens, {counts.trained_tokens:,} '
        f"trained ({share:.0%}) · {counts.characters:,} characters, {counts.characters_per_token} "
        f'per token</p><div class="bar"><i style="width:{share:.1%}"></i></div>'
        f"<pre>{''.join(map(_spans, kept))}</pre></section>\n"
    )


def _spans(piece: Piece) -> str:
    """The spans of one piece; a newline ends its line behind the span."""
    if not piece.ids:
        return f' <span class="soft">{escape(piece.text)}</span> '
    names = ["t", "trained"] if piece.trained else ["t"]
    if piece.control:
        names.append("control")
    classes = " ".join(names)
    text = escape(piece.text).replace("↵\n", '<span class="n">↵</span>\n')
    first, *rest = piece.ids
    what = f" of {len(piece.ids)} tokens for one character" if rest else ""
    spans = [f'<span class="{classes}" title="id {first}{what and ", 1" + what}">{text}</span>']
    spans += [
        f'<span class="{classes} rest" title="id {number}, {place}{what}">·</span>'
        for place, number in enumerate(rest, 2)
    ]
    return "".join(spans)
