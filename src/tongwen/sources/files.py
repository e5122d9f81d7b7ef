"""Rows of files: what `data prepare` counts.

    .txt .md        one document per file
    .json .jsonl    JSON lines, a JSON array, or JSON objects one after another; which of them is
                    recognised by the content, since `.json` files often hold lines

A row is one document or one JSON value; a blank line is none. What cannot be read becomes a Reject
that says where, why and what to do; nothing is passed over in silence. Memory is bounded by the
longest row, and JSON rows are limited to 4 MB.

Encoding: JSON is UTF-8, as its standard says, or UTF-16 with a byte order mark; bytes that are not
UTF-8 reject their line. Text may also be GB18030 or Big5, where that is certain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tongwen.errors import DataError
from tongwen.sources.jsonrows import Value, json_lines, json_values
from tongwen.text import detect_encoding

Form = Literal["text", "JSON lines", "JSON array", "JSON objects"]

TEXT_SUFFIXES: Final = (".txt", ".md")
JSON_SUFFIXES: Final = (".json", ".jsonl")
SUFFIXES: Final = TEXT_SUFFIXES + JSON_SUFFIXES
HEAD: Final = 1 << 16
MANY_NULS: Final = 8
"""UTF-8 with a NUL among more bytes than this is damaged text rather than UTF-16."""
BYTE_ORDER_MARKS: Final = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


@dataclass(frozen=True)
class Row:
    """One record as it stands in its file, not yet understood."""

    file: Path
    line: int
    record: object

    def reject(self, error: DataError) -> Reject:
        """This row, refused for what it holds."""
        return Reject(self.file, self.line, error.message, error.hint)


@dataclass(frozen=True)
class Reject:
    """One row that cannot be used: where it is, what is wrong, what to do."""

    file: Path
    line: int
    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class Source:
    """One file, its form and encoding recognised."""

    path: Path
    form: Form
    encoding: str | None
    """None where it is not certain; the row is then a Reject."""

    def rows(self) -> Iterator[Row | Reject]:
        """Read the file from its beginning."""
        if self.form == "text":
            yield from _document(self.path, self.encoding)
            return
        read = json_lines if self.form == "JSON lines" else json_values
        for value in read(self.path, self.encoding or "utf-8"):
            yield _row(self.path, value)


@dataclass(frozen=True)
class Expanded:
    """The files that sources stand for, and those in folders that are not of a known kind."""

    files: tuple[Path, ...]
    ignored: tuple[Path, ...]


def expand(sources: Sequence[Path]) -> Expanded:
    """The files behind files and folders: folders sorted, hidden files left out, no file twice."""
    files: dict[Path, Path] = {}
    ignored: dict[Path, Path] = {}
    for source in sources:
        if source.is_dir():
            for path in _walk(source):
                kind = files if path.suffix.lower() in SUFFIXES else ignored
                kind.setdefault(path.resolve(), path)
        elif source.is_file():
            if source.suffix.lower() not in SUFFIXES:
                raise DataError(
                    f"cannot tell what {source} is by its ending",
                    f"data files end in {', '.join(SUFFIXES)}",
                )
            files.setdefault(source.resolve(), source)
        else:
            raise DataError(f"{source} does not exist", "check the path for a slip of the pen")
    if not files:
        listed = ", ".join(str(source) for source in sources)
        raise DataError(f"no data files in {listed}", f"data files end in {', '.join(SUFFIXES)}")
    return Expanded(tuple(files.values()), tuple(ignored.values()))


def open_source(path: Path) -> Source:
    """Recognise the form and the encoding of one file."""
    data = _read(path, HEAD)
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    if path.suffix.lower() in TEXT_SUFFIXES:
        return Source(path, "text", marked or _text_encoding(path))
    encoding = marked or "utf-8"
    return Source(path, _form(data.decode(encoding, errors="ignore")), encoding)


def iter_rows(sources: Sequence[Path]) -> Iterator[Row | Reject]:
    """All rows of files and folders, in order; a row that cannot be read is a Reject."""
    for path in expand(sources).files:
        yield from open_source(path).rows()


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _row(path: Path, value: Value) -> Row | Reject:
    if value.reason is not None:
        return Reject(path, value.line, value.reason, value.hint)
    return Row(path, value.line, value.record)


def _form(head: str) -> Form:
    lines = [line.strip() for line in head.split("\n") if line.strip()]
    first, second = [*lines, "", ""][:2]
    if first.startswith("["):
        return "JSON lines" if first.endswith("]") and second.startswith("[") else "JSON array"
    if first == "{" or (first.startswith("{") and second.startswith('"')):
        return "JSON objects"
    return "JSON lines"


def _text_encoding(path: Path) -> str | None:
    data = _read(path)
    if data.count(0) * MANY_NULS < len(data) and _is_utf8(data):
        return "utf-8"
    try:
        return detect_encoding(data)
    except DataError:
        return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _document(path: Path, encoding: str | None) -> Iterator[Row | Reject]:
    data = _read(path)
    try:
        text = data.decode(encoding or detect_encoding(data))
    except DataError as error:
        yield Reject(path, 1, error.message, error.hint)
        return
    except UnicodeDecodeError as error:
        # The codec may have taken a byte order mark away before it counted.
        place = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, place) + 1
        yield Reject(
            path,
            line,
            f"byte 0x{data[place]:02X} at offset {place} is not {error.encoding}",
            "save the file as UTF-8",
        )
        return
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        yield Reject(path, line, "the text holds a NUL character", "remove it; is this a text?")
    elif text.strip():
        yield Row(path, 1, {"text": text.replace("\r\n", "\n").replace("\r", "\n")})
