"""Documents of plain text: one for each file, one for each line, or pieces of a huge file.

CRLF becomes LF, a byte order mark goes. Memory is bounded by the longest document: 64 MB, or 1 GB
where a person asks for whole files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final, Literal, TextIO

from tongwen.errors import DataError
from tongwen.sources.compressed import BUFFER, Content
from tongwen.sources.rows import Reject, Row
from tongwen.text import detect_encoding

TextRows = Literal["auto", "file", "line"]

WHOLE: Final = 64_000_000
"""Bytes up to which a file is one document."""
LONGEST: Final = 1_000_000_000
"""Bytes of the longest file that is one document because a person said so."""
PIECE: Final = 500_000
"""Characters from which a piece of a huge file ends at the next blank line, at twice as many at the
next line of any kind, and at four times as many wherever it is."""
SENTENCE_ENDS: Final = "。！？!?."


def text_rows(content: Content, encoding: str | None, rows: TextRows) -> Iterator[Row | Reject]:
    """The documents of a text."""
    if rows == "line" and encoding:
        yield from _lines(content, encoding)
    elif rows != "file" and encoding and longer_than(content, WHOLE):
        yield from _pieces(content, encoding)
    else:
        yield from _document(content, encoding)


def longer_than(content: Content, limit: int) -> bool:
    """Whether a content has more bytes than that."""
    if content.size is not None:
        return content.size > limit
    size = 0
    with content.open() as stream:
        while size <= limit and (piece := stream.read(BUFFER)):
            size += len(piece)
    return size > limit


def open_text(content: Content, encoding: str, newline: str | None = None) -> TextIO:
    """Text; bytes that are not UTF-8 pass as lone surrogates, so that only their place is lost."""
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return io.TextIOWrapper(content.open(), encoding=encoding, errors=errors, newline=newline)


def _document(content: Content, encoding: str | None) -> Iterator[Row | Reject]:
    limit = LONGEST if encoding else WHOLE
    with content.open() as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        yield Reject(
            content.name,
            1,
            f"one document of more than {limit // 1_000_000:,} MB"
            + ("" if encoding else " in an encoding that is not certain"),
            "read it with text_rows = line, or split the file"
            if encoding
            else "save the file as UTF-8",
        )
        return
    try:
        text = data.decode(encoding or detect_encoding(data))
    except DataError as error:
        yield Reject(content.name, 1, error.message, error.hint)
        return
    except UnicodeDecodeError as error:
        # The codec may have taken a byte order mark away before it counted.
        place = error.start + len(data) - len(error.object)
        yield Reject(
            content.name,
            data.count(b"\n", 0, place) + 1,
            f"byte 0x{data[place]:02X} at offset {place} is not {error.encoding}",
            "save the file as UTF-8",
        )
        return
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        yield Reject(content.name, line, *NUL)
    elif text.strip():
        yield Row(content.name, 1, {"text": text.replace("\r\n", "\n").replace("\r", "\n")})


NUL: Final = ("the text holds a NUL character", "remove it; is this a text?")


def _lines(content: Content, encoding: str) -> Iterator[Row | Reject]:
    number = 0
    with open_text(content, encoding) as file:
        try:
            while line := file.readline(4 * PIECE + 1):
                number += 1
                if len(line) > 4 * PIECE:
                    while not line.endswith("\n") and (line := file.readline(BUFFER)):
                        pass
                    yield Reject(
                        content.name,
                        number,
                        f"a line of more than {4 * PIECE:,} characters",
                        "break the line, or read the file as one document",
                    )
                elif line.strip():
                    yield _checked(content, number, line.removesuffix("\n"), encoding)
        except UnicodeDecodeError as error:
            yield _undecodable(content, number + 1, error)


def _pieces(content: Content, encoding: str) -> Iterator[Row | Reject]:
    """Whole paragraphs, or whole lines, or whole sentences: what the file allows."""
    number, first, size = 1, 1, 0
    lines: list[str] = []

    def piece() -> Iterator[Row | Reject]:
        text = "".join(lines)
        if text.strip():
            yield _checked(content, first, text, encoding)

    with open_text(content, encoding) as file:
        try:
            while line := file.readline(4 * PIECE - size):
                lines.append(line)
                size += len(line)
                blank_line = not line.strip()
                cut = not line.endswith("\n")
                full = size >= (PIECE if blank_line else 2 * PIECE) and not cut
                rest = ""
                if cut and size >= 4 * PIECE:
                    full, rest = True, _after_sentence(line)
                    lines[-1] = line[: len(line) - len(rest)]
                number += not cut
                if full:
                    yield from piece()
                    lines, first, size = [rest] if rest else [], number, len(rest)
        except UnicodeDecodeError as error:
            yield _undecodable(content, number, error)
        yield from piece()


def _after_sentence(line: str) -> str:
    """What stands behind the last sentence of a line, if there is one in its second half."""
    end = max(line.rfind(mark, len(line) // 2) for mark in SENTENCE_ENDS) + 1
    return line[end:] if end else ""


def _checked(content: Content, line: int, text: str, encoding: str) -> Row | Reject:
    if "\0" in text:
        return Reject(content.name, line + text.count("\n", 0, text.index("\0")), *NUL)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        byte = text[error.start].encode("utf-8", "surrogateescape")[0]
        return Reject(
            content.name,
            line + text.count("\n", 0, error.start),
            f"byte 0x{byte:02X} is not {encoding}",
            "save the file as UTF-8",
        )
    return Row(content.name, line, {"text": text})


def _undecodable(content: Content, line: int, error: UnicodeDecodeError) -> Reject:
    return Reject(
        content.name,
        line,
        f"from here on not {error.encoding}: {error.reason}; the rest of the file is not read",
        "save the file as UTF-8",
    )
