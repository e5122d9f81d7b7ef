"""Forty malformed files: every row that is not used is named, with its line and what is wrong."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tongwen.config import DataPrepareConfig
from tongwen.data import DataPrepareResult, TokenStore, data_prepare, load_manifest
from tongwen.tokenizer import load_tokenizer

FOLDER = Path(__file__).parent / "malformed"
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads(
    (FOLDER / "expected.toml").read_text(encoding="utf-8")
)
OUTCOMES = ("duplicates", "filtered", "rejected")


@dataclass
class Prepared:
    """What became of one file, beside a sound one that leaves something to train on."""

    result: DataPrepareResult
    folder: Path
    turned: list[dict[str, Any]] = field(default_factory=list)
    """The lines of rejects.jsonl."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    place = tmp_path_factory.mktemp("malformed")
    sound = place / "sound.jsonl"
    rows = [{"instruction": f"Count to {n}.", "output": f"{n} it is."} for n in range(5)]
    sound.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folders = {}
    for name in EXPECTED:
        config = DataPrepareConfig(
            sources=[sound, FOLDER / name],
            out=place / name,
            vocab_size=300,
            hold_out=0.0,
            clean=["basic"],
            workers=1,
        )
        prepared = Prepared(data_prepare(config), place / name)
        listed = (place / name / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        prepared.turned = [json.loads(line) for line in listed]
        folders[name] = prepared
    return folders


def test_every_file_has_an_expectation() -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"expected.toml"}
    assert files == set(EXPECTED)
    assert len(files) == 40


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_are_classified(name: str, prepared: dict[str, Prepared]) -> None:
    expected = EXPECTED[name]
    turned = {outcome: len(expected.get(outcome, ())) for outcome in OUTCOMES}
    _, source = load_manifest(prepared[name].folder).sources
    assert {outcome: getattr(source, outcome) for outcome in OUTCOMES} == turned
    assert source.used + source.held_out == expected["used"]
    assert source.rows_in == expected["used"] + sum(turned.values())


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_that_are_not_used_are_named(name: str, prepared: dict[str, Prepared]) -> None:
    expected = [
        (outcome, row["line"], row["says"])
        for outcome in OUTCOMES
        for row in EXPECTED[name].get(outcome, ())
    ]
    turned = prepared[name].turned
    assert all(Path(row["file"]) == FOLDER / name for row in turned)
    places = sorted((row["outcome"], row["line"]) for row in turned)
    assert places == sorted((outcome, line) for outcome, line, _ in expected)
    said = {row["line"]: f"{row['reason']} ({row['hint']})" for row in turned}
    for _, line, phrase in expected:
        assert phrase in said[line]


@pytest.mark.parametrize("name", EXPECTED)
def test_tokens_are_left_out_only_where_they_are_counted(
    name: str, prepared: dict[str, Prepared]
) -> None:
    assert (prepared[name].result.cut_tokens > 0) == ("cut" in EXPECTED[name])


def test_what_is_cut_is_neither_the_question_nor_the_answer(prepared: dict[str, Prepared]) -> None:
    [(name, cut)] = [(name, file["cut"]) for name, file in EXPECTED.items() if "cut" in file]
    folder = prepared[name].folder
    tokenizer = load_tokenizer(folder / "tokenizer")
    store = TokenStore.open(folder, "train")
    texts = [str(tokenizer.decode(store.ids(n).tolist())) for n in range(len(store))]
    assert any(cut["question"] in text and cut["answer"] in text for text in texts)
