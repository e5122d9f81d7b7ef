"""`tokenizer report`: how well tokenizers compress Chinese, English and code.

“Compression” has no one meaning in the literature, so every figure here is named by what it is:

    tokens_per_character   tokens of the whole text, encoded at once and without control tokens,
                           over its Unicode characters (what Chinese surveys call 压缩率)
    characters_per_token   its reciprocal
    bytes_per_token        bytes of the text in UTF-8 over its tokens
    hanzi_level1           share of the 3,755 Hanzi of GB 2312 level 1 that are one token
    hanzi_basic            share of the 20,992 Hanzi of U+4E00 to U+9FFF that are one token
    megabytes_per_second   bytes of all texts over the time to encode them, one text after another

A Hanzi “is one token” where a token of the vocabulary stands for that character and no other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.table import Table

from tongwen.config import TokenizerReportConfig
from tongwen.errors import ModelError
from tongwen.files import write_whole
from tongwen.messages import encode_text
from tongwen.tokenizer.bytes import token_bytes
from tongwen.tokenizer.folder import load_tokenizer
from tongwen.tokenizer.page import page
from tongwen.tokenizer.samples import OWN, Sample, read_samples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

DEFINITIONS: Final = {
    "tokens_per_character": "tokens of the whole text without control tokens / Unicode characters",
    "characters_per_token": "Unicode characters / tokens",
    "bytes_per_token": "bytes in UTF-8 / tokens",
    "hanzi_level1": "share of the 3,755 Hanzi of GB 2312 level 1 that are one token",
    "hanzi_basic": "share of the 20,992 Hanzi U+4E00 to U+9FFF that are one token",
    "megabytes_per_second": "bytes of all texts / seconds to encode them one after another",
}


@dataclass(frozen=True)
class Compression:
    """One text in the tokens of one tokenizer."""

    text: str
    characters: int
    bytes: int
    tokens: int
    tokens_per_character: float
    characters_per_token: float
    bytes_per_token: float
    unknown_tokens: int
    """Tokens that stand for what the vocabulary cannot write; they make the figures too good."""


@dataclass(frozen=True)
class TokenizerFigures:
    """What was measured of one tokenizer."""

    tokenizer: Path
    vocab_size: int
    hanzi_level1: float | None
    """None where the vocabulary does not say which characters its tokens stand for."""
    hanzi_basic: float | None
    megabytes_per_second: float
    texts: tuple[Compression, ...]


@dataclass(frozen=True)
class TokenizerReportResult:
    """The figures of all tokenizers, and what they mean."""

    definitions: dict[str, str]
    tokenizers: tuple[TokenizerFigures, ...]
    html: Path | None

    def __str__(self) -> str:
        return "" if self.html is None else str(self.html)


def tokenizer_report(config: TokenizerReportConfig) -> TokenizerReportResult:
    """Compare tokenizers: how many tokens they need for Chinese, English and code."""
    samples = read_samples(config.text, config.characters) if config.text else list(OWN)
    measured = [
        measure(path, load_tokenizer(path, config.split), samples) for path in config.tokenizers
    ]
    result = TokenizerReportResult(DEFINITIONS, tuple(measured), config.html)
    _show(result)
    if config.html is not None:
        write_whole(config.html, page(result))
    return result


def measure(
    path: Path, tokenizer: PreTrainedTokenizerFast, samples: Sequence[Sample]
) -> TokenizerFigures:
    """The figures of one tokenizer; it is warmed up before its speed is taken."""
    encode_text(tokenizer, OWN[0].text)
    begin = time.perf_counter()
    encoded = [encode_text(tokenizer, sample.text) for sample in samples]
    seconds = time.perf_counter() - begin
    unknown = tokenizer.unk_token_id
    texts = tuple(_compression(*pair, unknown) for pair in zip(samples, encoded, strict=True))
    level1, basic = _hanzi_shares(tokenizer)
    return TokenizerFigures(
        path,
        len(tokenizer),
        level1,
        basic,
        sum(text.bytes for text in texts) / seconds / 1e6,
        texts,
    )


def _compression(sample: Sample, ids: Sequence[int], unknown: int | None) -> Compression:
    tokens, characters, size = len(ids), len(sample.text), len(sample.text.encode())
    return Compression(
        text=sample.name,
        characters=characters,
        bytes=size,
        tokens=tokens,
        tokens_per_character=tokens / characters,
        characters_per_token=characters / tokens,
        bytes_per_token=size / tokens,
        unknown_tokens=0 if unknown is None else list(ids).count(unknown),
    )


def _hanzi_shares(tokenizer: PreTrainedTokenizerFast) -> tuple[float | None, float | None]:
    try:
        pieces = set(token_bytes(tokenizer))
    except ModelError:
        return None, None
    level1, basic = (
        sum(char.encode() in pieces for char in chars) / len(chars)
        for chars in (hanzi_level1(), hanzi_basic())
    )
    return level1, basic


@cache
def hanzi_level1() -> str:
    """The 3,755 common Hanzi of GB 2312: rows 16 to 55, of which the last ends at cell 89."""
    cells = [(row, cell) for row in range(16, 56) for cell in range(1, 95)]
    codes = bytes(0xA0 + part for place in cells[:-5] for part in place)
    return codes.decode("gb2312")


@cache
def hanzi_basic() -> str:
    """The block CJK Unified Ideographs of Unicode."""
    return "".join(map(chr, range(0x4E00, 0xA000)))


def _show(result: TokenizerReportResult) -> None:
    texts = result.tokenizers[0].texts
    headings = ["tokens", *(text.text for text in texts), "Hanzi*", "MB/s"]
    rows = [[one.tokenizer.name, *_cells(one)] for one in result.tokenizers]
    table = Table(title="tokens per character", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("tokenizer", no_wrap=True)
    for place, heading in enumerate(headings, 1):
        # A narrow terminal may cut names, never figures.
        width = max(len(row[place]) for row in rows)
        table.add_column(heading, justify="right", min_width=width, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        "tokens of each whole text, without control tokens, over its Unicode characters\n"
        "* share of the 3,755 Hanzi of GB 2312 level 1 that are one token"
    )
    if any(text.unknown_tokens for one in result.tokenizers for text in one.texts):
        console.print("? some of these tokens stand for text that the vocabulary cannot write")


def _cells(one: TokenizerFigures) -> list[str]:
    figures = [
        f"{text.tokens_per_character:.3f}{'?' if text.unknown_tokens else ''}" for text in one.texts
    ]
    speed = f"{one.megabytes_per_second:.1f}"
    return [f"{one.vocab_size:,}", *figures, _share(one.hanzi_level1), speed]


def _share(value: float | None) -> str:
    """A share as a percentage, or a dash where it is not known."""
    return "–" if value is None else f"{value:.1%}"
