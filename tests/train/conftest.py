"""A tokenizer, and prepared folders of text and of conversations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare
from tongwen.lessons import Course
from tongwen.tokenizer import save_tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer, `text` and `chat` (prepared), and their sources."""
    folder = tmp_path_factory.mktemp("lessons")
    course = Course(0)
    readings, exercises = list(course.readings(120)), list(course.exercises(160))
    save_tokenizer(
        train_tokenizer((str(one.item.to_record()) for one in readings), 500), folder / "tokenizer"
    )
    for name, rows in (("text", readings), ("chat", exercises)):
        lines = [json.dumps(row.item.to_record(), ensure_ascii=False) + "\n" for row in rows]
        source = folder / f"{name}.jsonl"
        source.write_text("".join(lines), encoding="utf-8")
        data_prepare(
            DataPrepareConfig(
                sources=[source],
                out=folder / name,
                tokenizer=folder / "tokenizer",
                max_length=256,
                hold_out=0.1,
            )
        )
    return folder
