"""`manifest.json`: what a prepared folder was made from and what is in it.

It holds no time and no absolute path that was not given, so that the same input gives the same
bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tongwen.errors import DataError

MANIFEST = "manifest.json"
FORMAT: Literal[1] = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceFile(_Record):
    """A file as it was found, before it was read."""

    path: str
    sha256: str
    bytes: int


class SourceCounts(SourceFile):
    """A file and what became of its rows."""

    form: str
    encoding: str | None
    layouts: dict[str, int]
    """Rows of each layout that was recognised."""
    rows: int
    used: int
    held_out: int
    rejected: int


class Counts(_Record):
    """Amounts of one kind of item."""

    items: int = 0
    """Conversations, documents and pieces of long documents."""
    tokens: int = 0
    trained_tokens: int = 0
    """Tokens that carry loss."""
    bytes: int = 0
    """UTF-8 bytes of the text that carries loss."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            items=self.items + other.items,
            tokens=self.tokens + other.tokens,
            trained_tokens=self.trained_tokens + other.trained_tokens,
            bytes=self.bytes + other.bytes,
        )


class SplitCounts(Counts):
    """Amounts of one split."""

    rows: int = 0
    languages: dict[str, Counts] = {}


class Settings(_Record):
    """What decides the content of the folder, besides the sources."""

    tokenizer: str | None
    """Hash of the given tokenizer; null where one was trained."""
    vocab_size: int | None
    """Size asked of the trained tokenizer; null where one was given."""
    max_length: int
    hold_out: float
    seed: int


class Vocabulary(_Record):
    """The tokenizer in the folder."""

    size: int
    hash: str


class Manifest(_Record):
    """Everything about a prepared folder but its tokens."""

    format: Literal[1] = FORMAT
    tongwen: str
    """Version that wrote the folder."""
    settings: Settings
    tokenizer: Vocabulary
    rows_in: int
    used: int
    held_out: int
    rejected: int
    splits: dict[str, SplitCounts]
    sources: list[SourceCounts]

    @property
    def files(self) -> list[SourceFile]:
        """The sources as they were found."""
        return [
            SourceFile(path=source.path, sha256=source.sha256, bytes=source.bytes)
            for source in self.sources
        ]


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared folder."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder} is not a prepared folder: it has no {MANIFEST}",
            "`tongwen data prepare SOURCES --out FOLDER` makes one",
        ) from None
    except (ValidationError, UnicodeDecodeError):
        raise DataError(
            f"{path} is not a manifest that this version reads",
            "prepare the data again with `tongwen data prepare`",
        ) from None


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the manifest of a prepared folder."""
    text = manifest.model_dump_json(indent=2)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def fingerprint(path: Path) -> SourceFile:
    """Name, size and sha256 of a file."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return SourceFile(path=path.as_posix(), sha256=digest, bytes=file.tell())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
