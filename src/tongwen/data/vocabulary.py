"""Train a tokenizer on the texts of sources: `tokenizer train`, and a part of `data prepare`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tongwen.config import CleaningConfig, TokenizerTrainConfig
from tongwen.config.tokenizer import TokenizerKind
from tongwen.data.flow import Reading, flow
from tongwen.data.manifest import SourceFile, fingerprints
from tongwen.data.talk import Talk
from tongwen.data.work import Items, Sifting, Task, Turned, Worker
from tongwen.errors import DataError
from tongwen.files import new_folder, refuse_existing
from tongwen.messages import Item, spoken
from tongwen.sources import TextRows, expand

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SAMPLE_BYTES: Final = 16_000_000
"""Text from which a tokenizer is trained, spread evenly over the sources."""


@dataclass(frozen=True)
class TokenizerTrainResult:
    """The tokenizer that was trained."""

    out: Path
    vocab_size: int
    hash: str
    rows_in: int
    rejected: int
    """Rows that could not be read, and had no part in the training."""

    def __str__(self) -> str:
        return str(self.out)


def tokenizer_train(config: TokenizerTrainConfig) -> TokenizerTrainResult:
    """Train a byte-level BPE tokenizer for Chinese and English."""
    from tongwen.tokenizer import save_tokenizer, tokenizer_hash

    refuse_existing(config.out)
    expanded = expand(config.sources)
    files = fingerprints(expanded)
    talk = Talk()
    talk.begin(expanded, files, config.out)
    sample = Sample(files, Sifting(CleaningConfig(clean=["none"])), "auto")
    tokenizer = tokenizer_of(
        sample, config.vocab_size, talk, config.kind, config.split_digits, config.specials
    )
    talk.left_out(sample.rows, sample.left_out)
    if sample.lines == 0:
        raise DataError(
            f"none of the {sample.rows:,} rows has text to train on",
            "`tongwen data prepare` lists every row with what is wrong with it",
        )
    with new_folder(config.out) as folder:
        save_tokenizer(tokenizer, folder)
    return TokenizerTrainResult(
        out=config.out,
        vocab_size=len(tokenizer),
        hash=tokenizer_hash(tokenizer),
        rows_in=sample.rows,
        rejected=sample.left_out,
    )


def tokenizer_of(
    sample: Sample,
    vocab_size: int,
    talk: Talk,
    kind: TokenizerKind = "bpe",
    split_digits: bool = True,
    specials: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on a sample."""
    from tongwen.tokenizer import train_tokenizer

    with talk.waiting("training the tokenizer"):
        tokenizer = train_tokenizer(
            sample, vocab_size, kind=kind, split_digits=split_digits, specials=specials
        )
    talk.tokenizer(len(tokenizer), vocab_size, min(sample.total_bytes, SAMPLE_BYTES))
    return tokenizer


@dataclass
class Sample:
    """Lines of the rows that are not held out; of large sources a share, drawn from the seed."""

    files: Sequence[SourceFile]
    sifting: Sifting
    text_rows: TextRows
    rows: int = 0
    left_out: int = 0
    lines: int = 0

    @property
    def total_bytes(self) -> int:
        """Bytes of the files."""
        return sum(file.bytes for file in self.files)

    def __iter__(self) -> Iterator[str]:
        share = SAMPLE_BYTES / max(self.total_bytes, 1)
        # Drawn line by line and not by content: a line that comes often must count often.
        draw = random.Random(f"{self.sifting.seed} tokenizer sample")
        for item in self._items():
            for text in spoken(item):
                for line in text.splitlines(keepends=True):
                    if share >= 1 or draw.random() < share:
                        self.lines += 1
                        yield line

    def _items(self) -> Iterator[Item]:
        readings = [
            Reading(place, Path(file.path), self.text_rows) for place, file in enumerate(self.files)
        ]
        for done in flow(readings, Worker, Task(self.sifting, Items())):
            for outcome in done.outcomes:
                self.rows += 1
                if isinstance(outcome, Turned):
                    self.left_out += 1
                elif outcome.split == "train":
                    item: Item = outcome.product.value
                    yield item
