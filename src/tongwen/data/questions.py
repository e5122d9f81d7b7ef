"""`tongwen data questions`: tables of questions and answers become rows to learn from.

A question that stands in many rows becomes one, and its answers one numbered answer: a model that
is taught many answers to one question loses more of what it could do before than one that is
taught a single answer. Every row is accounted for.

Rows that belong together may be far apart, so they are collected in a database file beside the
output: memory stays small, and the disk holds the texts once more while the command runs. The
order of the output is that in which the questions first appear.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, TextIO

from tongwen.config.questions import DataQuestionsConfig, Merge
from tongwen.errors import ConfigError, DataError
from tongwen.messages.conversation import check_encodable
from tongwen.messages.fields import Row as Record
from tongwen.messages.fields import blank, text_at, type_name
from tongwen.progress import say
from tongwen.sources import Reject, Row, iter_rows

REJECTS: Final = ".rejects.jsonl"
"""Ending of the list of rejected rows, beside the output."""
TABLES: Final = """
    CREATE TABLE questions (
        number INTEGER PRIMARY KEY, digest BLOB UNIQUE, text TEXT);
    CREATE TABLE answers (
        question INTEGER, digest BLOB, text TEXT, UNIQUE (question, digest));
    CREATE TABLE ids (id TEXT PRIMARY KEY, question INTEGER, file TEXT, line INTEGER);
"""
EACH: Final = """
    SELECT questions.number, questions.text, answers.text FROM questions
    JOIN answers ON answers.question = questions.number
    ORDER BY questions.number, answers.rowid
"""
UNANSWERED: Final = """
    SELECT file, line FROM ids
    WHERE NOT EXISTS (SELECT 1 FROM answers WHERE answers.question = ids.question)
    ORDER BY ids.rowid
"""


@dataclass(frozen=True)
class DataQuestionsResult:
    """What became of the rows: `rows_in` = `used` + `repeated` + `left_out` + `rejected`."""

    out: Path
    rows_in: int
    """Rows of all tables, those of the answers included."""
    questions: int
    """Different questions that have an answer."""
    written: int
    """Lines of the output."""
    merged: int
    """Answers that became a part of the answer before them."""
    used: int
    """Rows whose text is in the output."""
    repeated: int
    """Rows that say once more what another said."""
    left_out: int
    """Rows with further answers, of which only the first is written."""
    rejected: int
    rejects: Path | None
    """JSON lines with file, line, reason and hint of every row that was rejected."""

    def __str__(self) -> str:
        return str(self.out)


def data_questions(config: DataQuestionsConfig) -> DataQuestionsResult:
    """Write questions and answers as JSON lines, each question once."""
    if config.out.suffix.lower() not in (".jsonl", ".json"):
        raise ConfigError(
            f"{config.out} does not look like a file of JSON lines", "let it end in .jsonl"
        )
    for path in (config.out, config.out.with_suffix(REJECTS)):
        if path.exists():
            raise DataError(f"{path} exists already", "choose another --out, or remove it first")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, so that the finished file can be renamed into its place.
    with tempfile.TemporaryDirectory(prefix=f".{config.out.name}.", dir=config.out.parent) as name:
        folder = Path(name)
        rejects = folder / "rejects.jsonl"
        with (
            closing(sqlite3.connect(folder / "rows.sqlite", isolation_level=None)) as database,
            rejects.open("w", encoding="utf-8", newline="\n") as listed,
        ):
            database.executescript(f"PRAGMA journal_mode = OFF; {TABLES} BEGIN;")
            collector = _Collector(config, database, listed)
            collector.collect()
            with (folder / "out.jsonl").open("w", encoding="utf-8", newline="\n") as file:
                result = _write(collector, config, database, file)
        if not result.questions:
            raise _nothing(config, rejects)
        if result.rejects:
            rejects.replace(result.rejects)
        (folder / "out.jsonl").replace(config.out)
    _tell(result)
    return result


class _Collector:
    """Puts the rows of all tables into the database, and lists those that it cannot."""

    def __init__(
        self, config: DataQuestionsConfig, database: sqlite3.Connection, listed: TextIO
    ) -> None:
        self._config, self._database, self._listed = config, database, listed
        self.rows_in = self.repeated = self.rejected = self.asked = 0

    def collect(self) -> None:
        if not self._config.answers:
            for row in self._rows(self._config.sources):
                if texts := self._texts(row, self._config.question, self._config.answer):
                    self._answer(self._question(texts[0]), texts[1])
            return
        for row in self._rows(self._config.sources):
            self._numbered(row)
        for row in self._rows(self._config.answers):
            self._belonging(row)
        for file, line in self._database.execute(UNANSWERED).fetchall():
            self.asked -= 1
            self._reject(Reject(Path(file), line, "no answer has the number of this question"))

    def _rows(self, sources: Sequence[str | Path]) -> Iterator[Row]:
        for row in iter_rows(sources):
            self.rows_in += 1
            if isinstance(row, Reject):
                self._reject(row)
            elif isinstance(row.record, dict):
                yield row
            else:
                what = type_name(row.record)
                self._reject(row.reject(DataError(f"the row is {what}, not an object")))

    def _numbered(self, row: Row) -> None:
        """A question of the two-table form."""
        texts = self._texts(row, self._config.id, self._config.question)
        if texts is None:
            return
        number, text = texts
        values = (number, self._question(text), str(row.file), row.line)
        if not self._inserted("INSERT OR IGNORE INTO ids VALUES (?, ?, ?, ?)", values):
            self._reject(row.reject(DataError(f"the number {number} was given before")))
        else:
            self.asked += 1

    def _belonging(self, row: Row) -> None:
        """An answer of the two-table form."""
        texts = self._texts(row, self._config.question_id, self._config.answer)
        if texts is None:
            return
        number, text = texts
        found = self._database.execute(
            "SELECT question FROM ids WHERE id = ?", (number,)
        ).fetchone()
        if found is None:
            self._reject(row.reject(DataError(f"no question has the number {number}")))
        else:
            self._answer(found[0], text)

    def _texts(self, row: Row, *columns: str) -> tuple[str, ...] | None:
        """What the columns hold, without blanks around it; None once the row is rejected."""
        assert isinstance(row.record, dict), "rows that are no objects are out"
        try:
            return tuple(_text(row.record, column) for column in columns)
        except DataError as error:
            self._reject(row.reject(error))
            return None

    def _question(self, text: str) -> int:
        digest = hashlib.sha256(text.encode()).digest()
        self._inserted(
            "INSERT OR IGNORE INTO questions (digest, text) VALUES (?, ?)", (digest, text)
        )
        found = self._database.execute("SELECT number FROM questions WHERE digest = ?", (digest,))
        number: int = found.fetchone()[0]
        return number

    def _answer(self, question: int, text: str) -> None:
        digest = hashlib.sha256(text.encode()).digest()
        values = (question, digest, text)
        if not self._inserted("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", values):
            self.repeated += 1

    def _inserted(self, statement: str, values: Sequence[object]) -> bool:
        return self._database.execute(statement, values).rowcount == 1

    def _reject(self, reject: Reject) -> None:
        self.rejected += 1
        self._listed.write(_line({**asdict(reject), "file": str(reject.file)}))


def _text(record: Record, column: str) -> str:
    value = record.get(column)
    text = str(value) if isinstance(value, int) else text_at(record, column)
    check_encodable(f"the column '{column}'", text)
    if blank(text):
        raise DataError(f"the column '{column}' is empty", "fill it in, or remove the row")
    return text.strip()


def _write(
    collector: _Collector, config: DataQuestionsConfig, database: sqlite3.Connection, file: TextIO
) -> DataQuestionsResult:
    questions = written = answers = 0
    for (_, question), rows in groupby(database.execute(EACH), key=lambda row: row[:2]):
        texts = [text for *_, text in rows]
        outputs = _merged(texts, config.merge)
        file.writelines(_line(_record(question, output, config)) for output in outputs)
        questions, written, answers = questions + 1, written + len(outputs), answers + len(texts)
    file.flush()
    os.fsync(file.fileno())
    beyond = answers - written
    left_out = beyond if config.merge == "first" else 0
    return DataQuestionsResult(
        out=config.out,
        rows_in=collector.rows_in,
        questions=questions,
        written=written,
        merged=beyond if config.merge == "numbered" else 0,
        used=answers - left_out + collector.asked,
        repeated=collector.repeated,
        left_out=left_out,
        rejected=collector.rejected,
        rejects=config.out.with_suffix(REJECTS) if collector.rejected else None,
    )


def _merged(answers: Sequence[str], merge: Merge) -> Sequence[str]:
    if merge == "all" or len(answers) == 1:
        return answers
    if merge == "first":
        return answers[:1]
    return ["".join(f"{number}.{answer}\n" for number, answer in enumerate(answers, 1))]


def _record(question: str, answer: str, config: DataQuestionsConfig) -> dict[str, str]:
    asked = f"{config.prefix}{question}"
    if not config.instruction:
        return {"instruction": asked, "input": "", "output": answer}
    drawn = hashlib.sha256(f"{config.seed}\n{question}".encode()).digest()
    chosen = config.instruction[int.from_bytes(drawn[:8], "big") % len(config.instruction)]
    return {"instruction": chosen, "input": asked, "output": answer}


def _line(record: object) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _nothing(config: DataQuestionsConfig, rejects: Path) -> DataError:
    listed = ", ".join(map(str, config.sources))
    with rejects.open(encoding="utf-8") as file:
        first = next(map(json.loads, file), None)
    if first is None:
        return DataError(f"there are no questions in {listed}")
    place = f"{first['file']}:{first['line']}"
    return DataError(f"no question with an answer: {place}: {first['reason']}", first["hint"])


def _tell(result: DataQuestionsResult) -> None:
    say(
        f"{result.rows_in:,} rows in = {result.used:,} used + {result.repeated:,} repeated "
        f"+ {result.left_out:,} left out + {result.rejected:,} rejected"
    )
    say(
        f"{result.questions:,} questions, {result.merged:,} answers merged, "
        f"{result.written:,} lines written to {result.out}"
    )
    if result.rejects:
        say(f"what was rejected, and why: {result.rejects}")
