"""The process that parses documents, so that a bad one cannot harm ours.

    python -P -m tongwen.sources.child DESCRIPTOR

The descriptor is one end of a socket. Each message there is a form and limits in JSON, together
with two open files: the document, and an empty one for the result, a JSON line for each row. The
answer is a JSON line: what went wrong, or null. The process has no need of names of files, and what
it may use of time, memory and disk is limited by the kernel.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from io import BufferedReader
from typing import TextIO

from tongwen.errors import DataError
from tongwen.sources import recognise as forms
from tongwen.text.radicals import plain_radicals

Rows = Iterator[tuple[str | None, int, object]]


def main() -> None:
    """Answer requests until the other side goes away."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 4096, 2)
        if not message:
            return
        request = json.loads(message)
        _limit(request)
        with (
            os.fdopen(descriptors[0], "rb") as document,
            os.fdopen(descriptors[1], "w", encoding="utf-8", newline="\n") as out,
        ):
            answer = _answer(request["form"], document, out)
        channel.sendall(json.dumps(answer).encode() + b"\n")


def _limit(request: dict[str, int]) -> None:
    """What one document may use; processor time counts from the birth of the process."""
    seconds = math.ceil(time.process_time()) + request["seconds"]
    for kind, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, request["memory"]),
        (resource.RLIMIT_FSIZE, request["result"]),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(
            kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )


def _answer(form: str, document: BufferedReader, out: TextIO) -> tuple[str, str | None] | None:
    """Write the rows of a document; reason and hint where that is not possible."""
    try:
        for sheet, line, record in _rows(form, document):
            row: dict[str, object] = {"sheet": sheet, "line": line}
            if isinstance(record, DataError):
                row |= {"reason": record.message, "hint": record.hint}
            else:
                row |= {"record": record}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        out.flush()
    except DataError as error:
        return error.message, error.hint
    except MemoryError:
        return "needs more memory than a document may have", "split it"
    except RecursionError:
        return "nested too deeply", "save it again with the program it is from"
    except Exception as error:  # parsers of other people's files fail in every way there is
        return _failure(form, error)
    return None


def _failure(form: str, error: Exception) -> tuple[str, str | None]:
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "holds more text than a document may have", "split it"
    message = (str(error).splitlines() or [""])[0][:200]
    return f"the {form} file is damaged: {message or type(error).__name__}", "save it again"


def _rows(form: str, document: BufferedReader) -> Rows:
    if form == forms.EXCEL:
        from tongwen.sources.office import excel_rows

        yield from excel_rows(document)
        return
    text, title = _document(form, document)
    text = plain_radicals(text)
    if text.strip():
        record = {"text": text}
        if title:
            record["title"] = plain_radicals(title)
        yield None, 1, record
    elif os.fstat(document.fileno()).st_size:
        raise DataError("the document holds no text", "pictures of text must be recognised first")


def _document(form: str, document: BufferedReader) -> tuple[str, str]:
    """The text of a document and its title. Parsers are loaded when they are wanted."""
    if form == forms.PDF:
        from tongwen.sources.pdf import pdf_text

        return pdf_text(document), ""
    if form == forms.HTML:
        from tongwen.sources.html import decode_html, page_of

        page = page_of(decode_html(document.read()))
        return page.text, page.title
    from tongwen.sources.office import epub_text, powerpoint_text, word_text

    if form == forms.EPUB:
        return epub_text(document)
    if form == forms.WORD:
        return word_text(document), ""
    assert form == forms.POWERPOINT, form
    return powerpoint_text(document), ""


if __name__ == "__main__":
    main()
