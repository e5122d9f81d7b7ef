"""`manifest.json`: what a prepared folder was made from and what is in it.

It holds no time and no absolute path that was not given, so that the same input gives the same
bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from tongwen.errors import DataError
from tongwen.files import spelled
from tongwen.sources import Expanded

MANIFEST = "manifest.json"
FORMAT: Literal[2] = 2
OUTCOMES = ("used", "held_out", "duplicates", "filtered", "rejected")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceFile(_Record):
    """A file as it was found, before it was read."""

    path: str
    sha256: str
    bytes: int
    origin: str | None = None
    """Where it was downloaded from."""

    @property
    def name(self) -> str:
        """What to call it: its origin, which is the same everywhere, or its path."""
        return self.origin or spelled(self.path)


class Balance(_Record):
    """What became of rows: `rows_in` = used + held_out + duplicates + filtered + rejected."""

    rows_in: int = 0
    used: int = 0
    held_out: int = 0
    duplicates: int = 0
    """Rows that say what an earlier row says."""
    filtered: int = 0
    """Rows that a rule or a benchmark turned away."""
    rejected: int = 0
    """Rows that cannot be read or have nothing to learn from."""

    def __add__(self, other: Balance) -> Balance:
        mine, theirs = self.outcomes(), other.outcomes()
        rows_in = self.rows_in + other.rows_in
        return Balance(rows_in=rows_in, **{name: mine[name] + theirs[name] for name in mine})

    def outcomes(self) -> dict[str, int]:
        """The parts of the sum."""
        return {name: getattr(self, name) for name in OUTCOMES}

    @property
    def balanced(self) -> bool:
        """Whether every row has exactly one outcome."""
        return self.rows_in == sum(self.outcomes().values())

    def __str__(self) -> str:
        parts = [f"{name} {count:,}" for name, count in self.outcomes().items()]
        return f"rows_in {self.rows_in:,} = {' + '.join(parts)}"


class SourceCounts(SourceFile, Balance):
    """A file and what became of its rows."""

    form: str
    encoding: str | None
    note: str | None = None
    """What was noticed about the file, such as an ending that says something else."""
    layouts: dict[str, int]
    """Rows of each layout that was recognised."""


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


class Contamination(_Record):
    """What was found of a benchmark that was looked for."""

    name: str
    items: int
    too_short: int
    """Questions that cannot be told from ordinary text, and are not looked for."""
    found: int
    """Different questions found."""
    rows: int
    """Rows that hold one of them, and are left out."""


class Vocabulary(_Record):
    """The tokenizer in the folder."""

    size: int
    hash: str


class Manifest(_Record):
    """Everything about a prepared folder but its tokens."""

    format: Literal[2] = FORMAT
    tongwen: str
    """Version that wrote the folder."""
    settings: dict[str, JsonValue]
    """What decides the content of the folder, besides the sources."""
    tokenizer: Vocabulary
    balance: Balance
    notes: dict[str, int]
    """What was mended or noticed in rows, and in how many of them."""
    cut_characters: int = 0
    """Characters of passages that stand in earlier rows, cut from rows in use."""
    cut_tokens: int
    """Tokens of rows in use that were left out because of `max_length`."""
    benchmarks: list[Contamination]
    splits: dict[str, SplitCounts]
    sources: list[SourceCounts]

    @property
    def files(self) -> list[SourceFile]:
        """The sources as they were found."""
        return [
            SourceFile(
                path=source.path, sha256=source.sha256, bytes=source.bytes, origin=source.origin
            )
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


def fingerprint(path: Path, origin: str | None = None) -> SourceFile:
    """Place, size and sha256 of a file."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    return SourceFile(path=path.as_posix(), sha256=digest, bytes=size, origin=origin)


def fingerprints(expanded: Expanded) -> list[SourceFile]:
    """All files that sources stand for."""
    return [fingerprint(path, expanded.origins.get(path)) for path in expanded.files]
