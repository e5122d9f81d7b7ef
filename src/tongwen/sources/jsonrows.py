"""JSON values of a file one by one, in bounded memory, each with the line where it begins.

Every value is either a record or the reason why it is none. A broken line costs that line; in an
array the end of a broken record cannot be known, so there it costs the rest of the file, and the
reason says so. A record that gives a key twice is refused: which of the two is meant is not ours
to choose.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from tongwen.errors import DataError
from tongwen.sources.compressed import Content
from tongwen.sources.texts import open_text
from tongwen.sources.window import CHUNK, Window
from tongwen.text import detect_encoding

RECORD_LIMIT: Final = 4_000_000
"""Bytes of the longest record."""
SEARCH_LIMIT: Final = 64_000_000
"""Characters in which the end of an array's record is looked for."""
BLANK: Final = " \t\r\n"
REST: Final = "; the rest of the file is not read"


@dataclass(frozen=True)
class Value:
    """One record and its line; or, where `reason` is given, why there is none."""

    line: int
    record: object = None
    reason: str | None = None
    hint: str | None = None


class _RefusedError(ValueError):
    """Valid JSON that we do not accept."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise _RefusedError(f"the key “{key}” stands twice in one object")
    return record


STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique)
# Finds the end of a record that STRICT refused; digits stay text, as Python limits their number.
LENIENT: Final = json.JSONDecoder(parse_int=str)


def json_lines(content: Content, encoding: str) -> Iterator[Value]:
    """One value per line that is not blank."""
    with open_text(content, encoding, newline="\n") as file:
        offset = 3 if encoding == "utf-8-sig" else 0
        number = 0
        try:
            while line := file.readline(RECORD_LIMIT + 1):
                number += 1
                size = len(line.encode("utf-8", "surrogateescape"))
                if len(line) > RECORD_LIMIT and not line.endswith("\n"):
                    size += _skip_line(file)
                if not line.strip(BLANK):
                    pass
                elif size > RECORD_LIMIT:
                    yield _too_long(number, size)
                else:
                    yield _line(line, number, offset, content.name)
                offset += size
        except UnicodeDecodeError as error:
            yield _undecodable(number + 1, encoding, error)


def json_values(content: Content, encoding: str) -> Iterator[Value]:
    """The elements of one array, or objects one after another."""
    with open_text(content, encoding, newline="\n") as file:
        window = Window(file)
        try:
            yield from _values(window, content.name)
        except UnicodeDecodeError as error:
            yield _undecodable(window.line, encoding, error)


def _skip_line(file: TextIO) -> int:
    size = 0
    while part := file.readline(CHUNK):
        size += len(part.encode("utf-8", "surrogateescape"))
        if part.endswith("\n"):
            break
    return size


def _too_long(line: int, size: int) -> Value:
    return Value(
        line,
        reason=f"the record has {size:,} bytes, the longest accepted is {RECORD_LIMIT:,}",
        hint="split it, or give a long text as a .txt file of its own",
    )


def _undecodable(line: int, encoding: str, error: UnicodeDecodeError) -> Value:
    return Value(
        line, reason=f"not {encoding}: {error.reason}{REST}", hint="save the file as UTF-8"
    )


def _line(line: str, number: int, offset: int, path: Path) -> Value:
    if problem := _bad_characters(line, number, offset, path):
        return problem
    text = line.strip(BLANK)
    try:
        record, end = _decode(text, 0)
        if end < len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except json.JSONDecodeError as error:
        if _cut_off(error):
            return Value(
                number,
                reason=f"the JSON is cut off after {len(text)} characters: {_lower(error)}",
                hint="a record must stand complete on one line",
            )
        column = error.pos + line.index(text[0]) + 1
        return Value(
            number,
            reason=f"not JSON: {_lower(error)} at column {column}",
            hint="each line must be one JSON object, without a comma behind it",
        )
    except RecursionError:
        return Value(number, reason="the JSON is nested too deeply", hint="flatten the record")
    return _value(number, record)


def _bad_characters(text: str, line: int, offset: int | None, path: Path) -> Value | None:
    """Why this piece of a file cannot be read as JSON for its characters, if so."""
    nul = text.find("\0")
    if nul >= 0:
        return Value(
            line + text.count("\n", 0, nul),
            reason="a NUL character stands in the record",
            hint="the file was damaged when it was written or copied; write it again",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raw = text.encode("utf-8", "surrogateescape")
        before = len(text[: error.start].encode("utf-8"))
        place = f"byte {before + 1} of the record"
        if offset is not None:
            place = f"offset {offset + before} (byte {before + 1} of the line)"
        return Value(
            line + text.count("\n", 0, error.start),
            reason=f"byte 0x{raw[before]:02X} at {place} is not UTF-8",
            hint=_encoding_hint(raw, path),
        )
    return None


def _encoding_hint(raw: bytes, path: Path) -> str:
    try:
        name = detect_encoding(raw)
    except DataError:
        return "re-encode the file as UTF-8"
    return f"re-encode the file as UTF-8, perhaps with: iconv -f {name} -t utf-8 {path.name}"


def _decode(text: str, at: int) -> tuple[object, int]:
    """The JSON value at a place and where it ends; an error stands for one we refuse."""
    try:
        return STRICT.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        _, end = LENIENT.raw_decode(text, at)
        return error, end


def _value(line: int, record: object) -> Value:
    if isinstance(record, _RefusedError):
        return Value(line, reason=str(record), hint="keep one of the two")
    if isinstance(record, ValueError):
        return Value(line, reason=f"not JSON: {record}", hint="write long numbers as text")
    return Value(line, record)


def _lower(error: json.JSONDecodeError) -> str:
    return error.msg[0].lower() + error.msg[1:].removesuffix(" at")


def _cut_off(error: json.JSONDecodeError) -> bool:
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc.rstrip())


def _values(window: Window, path: Path) -> Iterator[Value]:
    array = window.skip(BLANK) == "["
    if array:
        window.advance(window.at + 1)
    first = True
    while following := window.skip(BLANK):
        if array and following == "]":
            window.advance(window.at + 1)
            if window.skip(BLANK):
                yield Value(
                    window.line,
                    reason=f"something stands behind the end of the array{REST}",
                    hint="a .json file holds one array; use JSON lines for several",
                )
            return
        if array and not first:
            if following != ",":
                yield _broken(window.line, f"a comma is missing before “{following}”")
                return
            window.advance(window.at + 1)
            window.skip(BLANK)
        first = False
        value, going_on = _next_value(window, path)
        yield value
        if not going_on:
            return
    if array:
        yield Value(
            window.line,
            reason="the array is cut off: the file ends without its ]",
            hint="the rows before it are kept; write or download the file again",
        )


def _next_value(window: Window, path: Path) -> tuple[Value, bool]:
    """The value at the window, and whether another may follow."""
    line = window.line
    while True:
        try:
            record, end = _decode(window.text, window.at)
            # A number at the edge may go on behind it.
            if end == len(window.text) and not isinstance(record, dict) and window.more():
                continue
        except json.JSONDecodeError as error:
            unread = len(window.text) - window.at
            if unread <= SEARCH_LIMIT and window.more():
                continue
            return _broken_record(window, line, error, path), False
        except RecursionError:
            return _broken(line, "the JSON is nested too deeply"), False
        piece = window.text[window.at : end]
        window.advance(end)
        problem = _bad_characters(piece, line, None, path)
        size = len(piece.encode("utf-8", "surrogateescape"))
        if problem is None and size > RECORD_LIMIT:
            problem = _too_long(line, size)
        return problem or _value(line, record), True


def _broken_record(window: Window, line: int, error: json.JSONDecodeError, path: Path) -> Value:
    problem = _bad_characters(window.text[window.at : error.pos + 1], line, None, path)
    if problem and problem.reason:
        return _broken(line, problem.reason)
    if _cut_off(error):
        return _broken(line, f"the record is cut off: {_lower(error)}")
    at = line + window.text.count("\n", window.at, error.pos)
    return _broken(line, f"not JSON: {_lower(error)} at line {at}")


def _broken(line: int, reason: str) -> Value:
    return Value(
        line, reason=reason + REST, hint="mend the record, or write the file as JSON lines"
    )
