"""Train a tokenizer on the texts of sources: `tokenizer train`, and a part of `data prepare`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tongwen.config import TokenizerTrainConfig
from tongwen.data.manifest import SourceFile, fingerprint
from tongwen.data.sources import Reject, expand, open_source
from tongwen.data.split import split_of
from tongwen.data.talk import Talk
from tongwen.errors import DataError
from tongwen.files import new_folder
from tongwen.messages import Conversation, Document, parse

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

    def __str__(self) -> str:
        return str(self.out)


def tokenizer_train(config: TokenizerTrainConfig) -> TokenizerTrainResult:
    """Train a byte-level BPE tokenizer for Chinese and English."""
    from tongwen.tokenizer import save_tokenizer, tokenizer_hash

    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise DataError(f"{config.out} exists already", "choose another --out, or remove it first")
    expanded = expand(config.sources)
    files = [fingerprint(path) for path in expanded.files]
    talk = Talk()
    talk.begin(expanded, files, config.out)
    tokenizer = tokenizer_of(files, config.vocab_size, talk, hold_out=0.0, seed=0)
    with new_folder(config.out) as folder:
        save_tokenizer(tokenizer, folder)
    return TokenizerTrainResult(config.out, len(tokenizer), tokenizer_hash(tokenizer))


def tokenizer_of(
    files: Sequence[SourceFile], vocab_size: int, talk: Talk, hold_out: float, seed: int
) -> PreTrainedTokenizerFast:
    """A tokenizer trained on an even sample of the rows that are not held out."""
    from tongwen.tokenizer import train_tokenizer

    total = sum(file.bytes for file in files)
    with talk.waiting("training the tokenizer"):
        sample = _sample(files, SAMPLE_BYTES / max(total, 1), hold_out, seed)
        tokenizer = train_tokenizer(sample, vocab_size)
    talk.tokenizer(len(tokenizer), vocab_size, min(total, SAMPLE_BYTES))
    return tokenizer


def _sample(files: Sequence[SourceFile], share: float, hold_out: float, seed: int) -> Iterator[str]:
    """Lines of the rows; of large sources this share of them, chosen by their content."""
    for file in files:
        for row in open_source(Path(file.path)).rows():
            if isinstance(row, Reject):
                continue
            try:
                item = parse(row.record)
            except DataError:
                continue
            if split_of(item, seed, hold_out) == "held_out":
                continue
            for text in _texts(item):
                for line in text.splitlines(keepends=True):
                    if zlib.crc32(line.encode("utf-8")) < share * 2**32:
                        yield line


def _texts(item: Conversation | Document) -> Iterator[str]:
    """The text of an item as it will be encoded: that of a conversation has the roles in it."""
    if isinstance(item, Document):
        yield item.text
    else:
        for message in item.messages:
            yield f"{message.role}\n"
            yield message.content
