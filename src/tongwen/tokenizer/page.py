"""The report on tokenizers as one HTML page that needs no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tongwen.tokenizer.report import TokenizerFigures, TokenizerReportResult

HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tokenizers</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #8884 }
  th:first-child, td:first-child { text-align: left }
  .bar { display: inline-block; height: .7rem; background: #3b7dd8; vertical-align: middle }
  dt { font-weight: 600 }
  @media (prefers-color-scheme: dark) { body { background: #111; color: #ddd } }
</style>
<h1>Tokenizers</h1>
"""
BAR_REM = 14.0


def page(result: TokenizerReportResult) -> str:
    """One table of bars for each text, the figures of the vocabularies, and what they mean."""
    parts = [HEAD]
    for place, text in enumerate(result.tokenizers[0].texts):
        parts.append(f"<h2>{escape(text.text)}</h2>")
        parts.append(f"<p>{text.characters:,} characters, {text.bytes:,} bytes in UTF-8</p>")
        parts.append(_compression(result.tokenizers, place))
    parts += ["<h2>Vocabularies</h2>", _vocabularies(result.tokenizers), "<h2>Definitions</h2><dl>"]
    parts += [
        f"<dt>{escape(name)}</dt><dd>{escape(meaning)}</dd>"
        for name, meaning in result.definitions.items()
    ]
    return "\n".join([*parts, "</dl></html>", ""])


def _compression(tokenizers: tuple[TokenizerFigures, ...], place: int) -> str:
    """Best first; the bar is as long as the text is in tokens."""
    ranked = sorted(tokenizers, key=lambda one: one.texts[place].tokens)
    longest = ranked[-1].texts[place].tokens
    rows = []
    for one in ranked:
        text = one.texts[place]
        width = BAR_REM * text.tokens / longest
        rows.append(
            f"<tr><td>{escape(one.tokenizer.name)}</td>"
            f'<td><span class="bar" style="width:{width:.2f}rem"></span></td>'
            f"<td>{text.tokens_per_character:.3f}</td><td>{text.characters_per_token:.2f}</td>"
            f"<td>{text.bytes_per_token:.2f}</td></tr>"
        )
    return _table(("tokenizer", "", "tokens/character", "characters/token", "bytes/token"), rows)


def _vocabularies(tokenizers: tuple[TokenizerFigures, ...]) -> str:
    rows = [
        f"<tr><td>{escape(one.tokenizer.name)}</td><td>{one.vocab_size:,}</td>"
        f"<td>{_share(one.hanzi_level1)}</td><td>{_share(one.hanzi_basic)}</td>"
        f"<td>{one.megabytes_per_second:.1f}</td></tr>"
        for one in tokenizers
    ]
    return _table(("tokenizer", "tokens", "Hanzi of 3,755", "Hanzi of 20,992", "MB/s"), rows)


def _table(headings: tuple[str, ...], rows: list[str]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    return "\n".join([f"<table><tr>{head}</tr>", *rows, "</table>"])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
