"""Files become rows: what `data prepare` counts.

| form | rows |
|---|---|
| text (.txt, .md) | a document for each file, or for each line |
| JSON lines, array, objects | a value each |
| CSV, TSV, Excel | a record for each line below the names of the columns |
| Parquet, Arrow, Feather | a record for each row |
| HTML, PDF, Word, EPUB, PowerPoint | one document |
| zip | the rows of its members |

Each may be packed as .gz or .zst. The form is recognised by the content. What cannot be read
becomes a Reject that says where, why and what to do; nothing is passed over in silence, and memory
is bounded whatever the size of a file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tongwen.errors import DataError
from tongwen.sources import recognise as forms
from tongwen.sources.compressed import Content, File, Member, members, open_archive
from tongwen.sources.dialect import CSV, TSV
from tongwen.sources.documents import document_rows
from tongwen.sources.expand import expand
from tongwen.sources.jsonrows import Value, json_lines, json_values
from tongwen.sources.recognise import Kind, ending_of, is_data, recognise, surprise
from tongwen.sources.rows import Reject, Row
from tongwen.sources.tables import arrow_rows, csv_rows, parquet_rows
from tongwen.sources.texts import WHOLE, TextRows, longer_than, text_rows

SHOWN: Final = 3
"""Members of an archive that are named where many are left out."""
LOOKED_AT: Final = 100
"""Members of an archive whose forms are told before they are read."""

Read = Callable[[], Iterator[Row | Reject]]


@dataclass(frozen=True)
class Source:
    """One file, its form and encoding recognised."""

    path: Path
    form: str
    """What people call it: `JSON lines`, `CSV, gzip`, `PDF`, `zip of CSV, text`."""
    encoding: str | None = None
    """None for a binary form, and for a text where it is not certain; the row is then a Reject."""
    note: str | None = None
    """What else a person should know: a wrong ending, columns without names, a file in pieces."""
    read: Read = field(default=partial(iter, ()), repr=False, compare=False)

    def rows(self) -> Iterator[Row | Reject]:
        """Read the file from its beginning; what breaks off on the way ends with a Reject."""
        line = 0
        try:
            for row in self.read():
                line = row.line
                yield row
        except DataError as error:
            yield Reject(self.path, line + 1, error.message, error.hint)


def open_source(path: Path, text_rows: TextRows = "auto") -> Source:
    """Recognise the form and the encoding of one file.

    `text_rows` says what a document of a text file is: the whole `file`, each `line`, or (auto) the
    file, unless it is larger than 64 MB; then groups of paragraphs. A DataError where the file
    cannot be opened at all.
    """
    File(path).open().close()
    return _open(File(path), text_rows)


def iter_rows(
    sources: Sequence[str | Path], text_rows: TextRows = "auto"
) -> Iterator[Row | Reject]:
    """All rows of sources, in order; a row that cannot be read is a Reject."""
    for path in expand(sources).files:
        yield from open_source(path, text_rows).rows()


def _open(content: Content, rows: TextRows) -> Source:
    try:
        plain, kind = recognise(content)
    except DataError as error:
        return _refused(content, error.message, error.hint)
    if kind.form == forms.ZIP:
        return _open_zip(content, rows)
    form = f"{kind.form}, {kind.packing}" if kind.packing else kind.form
    read = partial(_read, plain, kind, rows)
    return Source(content.name, form, kind.encoding, _note(plain, kind, rows), read)


def _note(content: Content, kind: Kind, rows: TextRows) -> str | None:
    notes = [surprise(kind, ending_of(content, packed=kind.packing is not None))]
    if kind.dialect and not kind.dialect.header:
        notes.append("without names of columns, which are called column_1, column_2, …")
    if kind.form == forms.TEXT and kind.encoding and rows == "auto" and _is_huge(content):
        notes.append(
            f"larger than {WHOLE // 1_000_000} MB: read in pieces of whole paragraphs or lines; "
            "text_rows = line makes each line a document"
        )
    return "; ".join(note for note in notes if note) or None


def _is_huge(content: Content) -> bool:
    try:
        return longer_than(content, WHOLE)
    except DataError:
        return False


def _read(content: Content, kind: Kind, rows: TextRows) -> Iterator[Row | Reject]:
    if kind.form == forms.TEXT:
        return text_rows(content, kind.encoding, rows)
    if kind.form in (forms.JSON_LINES, forms.JSON_ARRAY, forms.JSON_OBJECTS):
        read = json_lines if kind.form == forms.JSON_LINES else json_values
        return (_row(content.name, value) for value in read(content, kind.encoding or "utf-8"))
    if kind.form in (CSV, TSV):
        if kind.encoding is None or kind.dialect is None:
            return text_rows(content, kind.encoding, "file")
        return csv_rows(content, kind.encoding, kind.dialect)
    if kind.form == forms.PARQUET:
        return parquet_rows(content)
    if kind.form in (forms.ARROW, forms.FEATHER):
        return arrow_rows(content)
    assert kind.form in forms.DOCUMENTS, kind.form
    return document_rows(content, kind.form)


def _row(path: Path, value: Value) -> Row | Reject:
    if value.reason is not None:
        return Reject(path, value.line, value.reason, value.hint)
    return Row(path, value.line, value.record)


def _open_zip(content: Content, rows: TextRows) -> Source:
    if not isinstance(content, File):
        return _refused(content, "an archive within an archive", "unpack it first")
    try:
        with open_archive(content.name) as archive:
            data, left_out = _sorted_out(archive)
            opened = [_open(member, rows) for member in data[:LOOKED_AT]]
    except DataError as error:
        return _refused(content, error.message, error.hint)
    found = {source.form for source in opened} - {"unreadable"}
    encodings = {source.encoding for source in opened if source.encoding}
    return Source(
        content.name,
        f"zip of {', '.join(sorted(found))}" if found else forms.ZIP,
        encodings.pop() if len(encodings) == 1 else None,
        f"left out as no data: {_listed(left_out)}" if left_out else None,
        partial(_read_zip, content.name, rows),
    )


def _read_zip(path: Path, rows: TextRows) -> Iterator[Row | Reject]:
    with open_archive(path) as archive:
        locked = [member.name.name for member in members(archive) if member.locked]
        if locked:
            yield Reject(
                path,
                1,
                f"protected by a password: {_listed(locked)}",
                "unpack the archive with its password first",
            )
        for member in _sorted_out(archive)[0]:
            yield from _open(member, rows).rows()


def _sorted_out(archive: zipfile.ZipFile) -> tuple[list[Member], list[str]]:
    """The members that are read, and the names of those that are no data."""
    open_members = [member for member in members(archive) if not member.locked]
    data, left_out = [], []
    for member in open_members:
        if is_data(member):
            data.append(member)
        else:
            left_out.append(member.name.name)
    return data, left_out


def _refused(content: Content, reason: str, hint: str | None) -> Source:
    reject = Reject(content.name, 1, reason, hint)
    return Source(content.name, "unreadable", read=partial(iter, (reject,)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
