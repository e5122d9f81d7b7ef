"""`data clean` and `data stats`: the rows worth training on, and what there is to know of them.

    rows.jsonl      the rows to use, one JSON object a line, in our own layouts (`data clean` only)
    rejects.jsonl   every other row, with its reason
    account.json    the books
    report.html     the same, as pictures

The folder appears only when it is complete; one with anything in it is never written over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tongwen.config import DataCleanConfig, DataStatsConfig, SiftConfig
from tongwen.data.account import REJECTS, REPORT, RowsResult
from tongwen.data.manifest import fingerprints
from tongwen.data.pipeline import Pipeline, check_place, located
from tongwen.data.talk import Talk
from tongwen.data.work import Lengths, Records
from tongwen.files import new_folder, refuse_existing, write_whole
from tongwen.sources import expand

ROWS: Final = "rows.jsonl"
ACCOUNT: Final = "account.json"
Use = Callable[[Path, Pipeline], None]


@dataclass(frozen=True)
class DataSiftResult(RowsResult):
    """What became of the rows, and where it is written down."""

    rejects: Path
    report: Path


def data_clean(config: DataCleanConfig) -> DataSiftResult:
    """Write the rows worth training on as JSON lines."""

    def write(folder: Path, pipeline: Pipeline) -> None:
        with (folder / ROWS).open("w", encoding="utf-8") as file:
            for sound in pipeline.sounds(Records()):
                file.write(json.dumps(sound.product.value, ensure_ascii=False) + "\n")

    return _sift(config, config.out, "Cleaned data 数据清洗", write)


def data_stats(config: DataStatsConfig) -> DataSiftResult:
    """Count what is in sources, and what the rules would find in them."""
    from tongwen.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer) if config.tokenizer else None

    def count(_: Path, pipeline: Pipeline) -> None:
        for _sound in pipeline.sounds(Lengths(tokenizer)):
            pass

    return _sift(config, config.out, "Data statistics 数据统计", count)


def _sift(config: SiftConfig, out: Path, title: str, use: Use) -> DataSiftResult:
    refuse_existing(out)
    config = located(config)
    check_place(out, config.sources)
    expanded = expand(config.sources)
    files = fingerprints(expanded)
    talk = Talk()
    talk.begin(expanded, files, out)
    with new_folder(out) as folder:
        with Pipeline(config, files, folder, talk) as pipeline:
            use(folder, pipeline)
        account = pipeline.account
        write_whole(folder / ACCOUNT, _books(pipeline))
        account.write_report(folder / REPORT, title)
    talk.reasons(account.reasons)
    talk.balance(account.balance, out / REJECTS)
    talk.benchmarks(account.benchmarks())
    talk.notes(account.notes, account.cut_characters)
    talk.report(out / REPORT)
    return DataSiftResult(
        out=out,
        **account.balance.model_dump(),
        rejects=out / REJECTS,
        report=out / REPORT,
    )


def _books(pipeline: Pipeline) -> str:
    account = pipeline.account
    books = {
        "balance": account.balance.model_dump(),
        "cut_characters": account.cut_characters,
        "notes": dict(sorted(account.notes.items())),
        "benchmarks": [one.model_dump() for one in account.benchmarks()],
        "statistics": account.statistics.to_record(),
        "sources": [source.model_dump() for source in account.sources],
    }
    return json.dumps(books, ensure_ascii=False, indent=2) + "\n"
