"""The questions in benchmark files, in the formats that benchmarks come in.

JSON lines, JSON arrays and objects, CSV and TSV with or without a header, each also with `.gz`.
Which fields hold the question is told by their names (`QUESTION`); options and answers stay aside,
as they are short, and shared by many questions. Where a passage belongs to a question the two are
one item. A record without a known field is an error that lists the fields that it has.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tongwen.errors import DataError
from tongwen.text import decode

QUESTION: Final = (
    # in the order in which they are read in an item
    "passage context ctx article content story abst text premise sentence sentence1 sentence2 "
    "hypothesis goal instruction prompt query question problem input inputs "
    "inputs_pretokenized origin_prompt turns"
).split()
WITH_ITS_END: Final = ("continuation",)
"""Fields that belong to a context that is too short, or is no question, without them."""
TABLES: Final = {".csv": ",", ".tsv": "\t"}
SUFFIXES: Final = (".json", ".jsonl", *TABLES)
COMMON_NAMES: Final = frozenset("test dev val valid validation train eval data".split())
"""Names of files and folders that only say something together with the folder they are in."""
LABEL: Final = re.compile(r"\A\s*(?:question|问题?|题目)\s*[:：]\s*", re.IGNORECASE)
OPTIONS: Final = re.compile(
    r"\n\s*(?:[Cc]hoices\s*:|选项\s*[:：]|\(?A\s*[).．、]|[Aa]nswer\s*:).*", re.DOTALL
)


def benchmark_files(path: Path) -> tuple[str, list[Path]]:
    """The name of a benchmark, and its files: one file, or all that are known in a folder."""
    if not path.exists():
        raise DataError(f"{path} does not exist", "check the path of the benchmark")
    if not path.is_dir():
        return _name(path), [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) in SUFFIXES)
    if not files:
        raise DataError(
            f"no benchmark files in {path}", f"they end in {', '.join(SUFFIXES)}, also with .gz"
        )
    return _name(path), files


def questions(path: Path) -> Iterator[tuple[str, ...]]:
    """The items of one file in order; an item is one text, or several of which any may be found."""
    suffix = _suffix(path)
    text = _text(path)
    if suffix in TABLES:
        yield from _table_questions(text, TABLES[suffix])
        return
    for number, record in enumerate(_records(path, text), 1):
        yield from _record_questions(path, number, record)


def _name(path: Path) -> str:
    stem = path.name.removesuffix(".gz")
    stem = stem if path.is_dir() else stem.removesuffix(Path(stem).suffix)
    folder = path.resolve().parent.name
    return f"{folder}/{stem}" if stem.lower() in COMMON_NAMES and folder else stem


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return decode(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read the benchmark {path}: {error}") from error


def _table_questions(text: str, delimiter: str) -> Iterator[tuple[str, ...]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    columns = [header.index(name) for name in QUESTION if name in header]
    for row in rows[1:] if columns else rows:
        # Without a header the question comes first (MMLU, MGSM).
        yield (" ".join(row[i] for i in columns or [0] if i < len(row)),)


def _records(path: Path, text: str) -> list[object]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        lines = enumerate(text.split("\n"), 1)
        return [_line(path, number, line) for number, line in lines if line.strip()]
    if isinstance(whole, dict) and whole and all(isinstance(v, dict) for v in whole.values()):
        return list(whole.values())
    return whole if isinstance(whole, list) else [whole]


def _line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(
            f"the benchmark {path} is damaged: line {number}: {reason}",
            "benchmarks are JSON lines, a JSON array or object, CSV or TSV",
        ) from None


def _record_questions(path: Path, number: int, record: object) -> Iterator[tuple[str, ...]]:
    match record:
        case str():
            yield (record,)
        case [[*passage], [*asked], *_]:  # C3: what is read, what is asked about it, an id
            for one in asked:
                yield (_joined([*map(str, passage), *_fields(one)]),)
        case {"context_options": [*contexts], "continuation": str(end)}:  # WinoGrande
            yield tuple(f"{context} {end}" for context in contexts)
        case _ if fields := _fields(record):
            yield (_joined(fields),)
        case _:
            listed = ", ".join(map(str, record)) if isinstance(record, dict) else "none"
            raise DataError(
                f"no question in record {number} of the benchmark {path} (its fields: {listed})",
                f"name the field `question`; known are {', '.join(QUESTION)}",
            )


def _fields(record: object) -> list[str]:
    """The texts of the fields that make up a question."""
    if not isinstance(record, dict):
        return []
    fields = {str(name).lower(): value for name, value in record.items()}
    texts = []
    for name in (*QUESTION, *WITH_ITS_END):
        value = fields.get(name)
        values = value if isinstance(value, list) else [value]
        texts += [text for text in values if isinstance(text, str) and text.strip()]
    return texts


def _joined(texts: list[str]) -> str:
    return "\n".join(OPTIONS.sub("", LABEL.sub("", text)) for text in texts)
