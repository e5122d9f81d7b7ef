"""Rows of tables: CSV and TSV, Parquet, Arrow and Feather.

A row is a record of the columns' names and what stands in the cells: text in CSV and TSV, plain
values elsewhere. A broken line of a CSV costs that line; where a quote opens that is never closed,
reading goes on with the next line.
"""

from __future__ import annotations

import csv
import datetime
import decimal
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, TextIO

from tongwen.errors import DataError
from tongwen.sources.compressed import BUFFER, Content, seekable
from tongwen.sources.dialect import Dialect, column_names, numbered
from tongwen.sources.rows import Reject, Row
from tongwen.sources.texts import NUL, open_text

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

RECORD_LIMIT: Final = 4_000_000
"""Characters of the longest record."""
ENDS: Final = ("\n", "\r")
BATCH: Final = 64
"""Rows of a column file that are held at once."""
NO_NAMES: Final = "; without the names of its columns the table is not read"
COLUMNS_HINT: Final = "give every column a name of its own in the first line"

# The reader's own limit of 131,072 characters holds for the whole process.
csv.field_size_limit(max(csv.field_size_limit(), RECORD_LIMIT))


def csv_rows(content: Content, encoding: str, dialect: Dialect) -> Iterator[Row | Reject]:
    """The records of a CSV or TSV, each with the line where it begins."""
    names: list[str] | None = None
    with open_text(content, encoding, newline="") as file:
        records = _Records(file, dialect)
        try:
            while (line := records.line) and (cells := records.next()) is not None:
                if isinstance(cells, DataError) and names is None and dialect.header:
                    # Reading on, the next record would be taken for the names.
                    yield Reject(content.name, line, cells.message + NO_NAMES, cells.hint)
                    return
                if isinstance(cells, DataError):
                    yield Reject(content.name, line, cells.message, cells.hint)
                elif not any(cells):
                    pass
                elif names is None and dialect.header:
                    names, problem = column_names(cells)
                    if problem:
                        yield Reject(content.name, line, problem, COLUMNS_HINT)
                        return
                else:
                    names = names or numbered(len(cells))
                    yield _row(content, line, names, cells, encoding)
        except UnicodeDecodeError as error:
            yield Reject(
                content.name,
                records.line,
                f"from here on not {encoding}: {error.reason}; the rest of the file is not read",
                "save the file as UTF-8",
            )


class _Records:
    """The records of a table one by one; lines of a broken one are read again."""

    def __init__(self, file: TextIO, dialect: Dialect) -> None:
        self._file, self._dialect = file, dialect
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self._reader = self._new_reader()
        self.line = 1
        """Number of the next line."""

    def next(self) -> list[str] | DataError | None:
        """The cells of a record, what is wrong with it, or None at the end."""
        self._taken.clear()
        problem = None
        try:
            cells = next(self._reader, None)
        except csv.Error as error:
            cells, problem = None, str(error)
        taken = self._taken
        if problem is None and (not taken or taken[-1].endswith(ENDS)):
            self.line += len(taken)
            return cells
        self._reader = self._new_reader()
        if taken and len(taken[0]) > RECORD_LIMIT:
            return self._too_long()
        if problem is None:
            # The last line of a file may lack its end.
            self.line += len(taken)
            return cells
        self._again.extendleft(reversed(taken[1:]))
        self.line += 1
        return _csv_error(problem, self.line - 1, len(taken))

    def _new_reader(self) -> Iterator[list[str]]:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._dialect.quoted else csv.QUOTE_NONE
        delimiter = self._dialect.delimiter
        return csv.reader(self._feed(), delimiter=delimiter, quoting=quoting, strict=True)

    def _feed(self) -> Iterator[str]:
        """Lines for a reader, until one record has had enough of them."""
        size = 0
        while (size <= RECORD_LIMIT or not self._taken) and (line := self._next_line()):
            size = size + len(line) if self._taken else len(line)
            self._taken.append(line)
            yield line

    def _next_line(self) -> str:
        return self._again.popleft() if self._again else self._file.readline(RECORD_LIMIT + 1)

    def _too_long(self) -> DataError:
        self._again.extendleft(reversed(self._taken[1:]))
        line = self._taken[0]
        while line and not line.endswith(ENDS):
            line = self._next_line()
        self.line += 1
        return DataError(
            f"a record of more than {RECORD_LIMIT:,} characters",
            "split it, or give a long text as a .txt file of its own",
        )


def _csv_error(problem: str, first: int, lines: int) -> DataError:
    if "expected after" in problem:
        return DataError(
            "a quote closes in the middle of a cell",
            'write " inside of a cell in quotes as ""',
        )
    if lines > 1 or "unexpected end" in problem:
        return DataError(
            f"a quote opens in line {first} and is not closed",
            'close it, or write a " that is text as """" (a quoted cell with a doubled quote)',
        )
    return DataError(f"not a record: {problem}", "write the table again with a CSV library")


def _row(
    content: Content, line: int, names: Sequence[str], cells: Sequence[str], encoding: str
) -> Row | Reject:
    joined = "".join(cells)
    if "\0" in joined:
        return Reject(content.name, line, *NUL)
    if not joined.isascii() and any("\udc80" <= char <= "\udcff" for char in joined):
        return Reject(
            content.name,
            line,
            f"bytes that are not {encoding}",
            "save the whole table in one encoding, best UTF-8",
        )
    if len(cells) != len(names):
        return Reject(
            content.name,
            line,
            f"{len(cells)} cells in a table of {len(names)} columns",
            "put cells that hold the delimiter into quotes, or add what is missing",
        )
    return Row(content.name, line, dict(zip(names, cells, strict=True)))


def parquet_rows(content: Content) -> Iterator[Row | Reject]:
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with seekable(content) as stream:

        def batches() -> Iterator[pa.RecordBatch]:
            file = pq.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False)
            _check_names(file.schema_arrow.names)
            yield from file.iter_batches(batch_size=BATCH, use_threads=False)

        yield from _column_rows(content, batches())


def arrow_rows(content: Content) -> Iterator[Row | Reject]:
    """The rows of an Arrow file or stream, or of a Feather file, which is the same."""
    with seekable(content) as stream:
        yield from _column_rows(content, _arrow_batches(stream))


def _arrow_batches(stream: BinaryIO) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    magic = stream.read(6)
    stream.seek(0)
    if magic == b"ARROW1":
        file = pa.ipc.open_file(stream)
        _check_names(file.schema.names)
        whole = (file.get_batch(number) for number in range(file.num_record_batches))
    else:
        reader = pa.ipc.open_stream(stream)
        _check_names(reader.schema.names)
        whole = iter(reader)
    for batch in whole:
        # Damaged offsets would lead out of the memory of the batch, and end the process.
        batch.validate(full=True)
        for start in range(0, batch.num_rows, BATCH):
            yield batch.slice(start, BATCH)


def _check_names(names: Sequence[str]) -> None:
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise DataError(f"two columns have the name “{twice}”", "give each a name of its own")


def _column_rows(content: Content, batches: Iterator[pa.RecordBatch]) -> Iterator[Row | Reject]:
    number = 0
    try:
        for batch in batches:
            for record in _records(batch):
                number += 1
                if isinstance(record, DataError):
                    yield Reject(content.name, number, record.message, record.hint)
                else:
                    yield Row(content.name, number, record)
    except DataError as error:
        yield Reject(content.name, number + 1, error.message, error.hint)
    except Exception as error:  # damaged files fail in every way there is
        yield Reject(
            content.name,
            number + 1,
            f"the file is damaged: {_first_line(error)}",
            "the rows before it are kept; write or download the file again",
        )


def _records(batch: pa.RecordBatch) -> Iterator[object | DataError]:
    """The records of a batch; where one cannot be had, they are taken one by one."""
    try:
        records = [_record(record) for record in batch.to_pylist()]
    except Exception as error:  # Python does not know every date that Arrow does
        if batch.num_rows == 1:
            reason = f"a value that cannot be read: {_first_line(error)}"
            yield DataError(reason, "write the column as text")
            return
        slices = (batch.slice(at, 1) for at in range(batch.num_rows))
        yield from chain.from_iterable(map(_records, slices))
    else:
        yield from records


def _record(record: dict[str, Any]) -> object | DataError:
    try:
        return _plain(record, "")
    except DataError as error:
        return error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _plain(value: Any, key: str) -> object:
    """A value as JSON could hold it."""
    if isinstance(value, dict):
        return {str(name): _plain(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, key) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"the column “{key}” holds {len(value):,} bytes that are not text",
                "leave pictures and sounds out when the table is written",
            ) from None
    return value
