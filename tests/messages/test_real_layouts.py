"""The layouts as published files have them: how many rows are read, and why others are not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tongwen.errors import DataError
from tongwen.messages import layout_of, parse

NO_ANSWER = "the last message (N) is the user's and has no answer"
EMPTY_OUTPUT = "the key 'output' is empty"


def read(path: Path) -> list[object]:
    with path.open(encoding="utf-8") as file:
        if path.suffix == ".json":
            rows: list[object] = json.load(file)
            return rows
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    ("name", "layout", "rows", "refused"),
    [
        ("alpaca_zh_demo.json", "alpaca", 1000, {}),
        ("alpaca_zh_translated.json", "alpaca", 15186, {EMPTY_OUTPUT: 8}),
        ("rasbt_instruction_data.json", "alpaca", 1100, {}),
        ("vicuna_instruct_sample.jsonl", "alpaca", 10, {}),
        ("vicuna_chat_sample.jsonl", "turns", 3, {}),
        ("medical_sft_1k.jsonl", "sharegpt", 1000, {}),
        ("aquila_alpaca_train.jsonl", "sharegpt", 1024, {}),
        ("aquila_convo_samples.jsonl", "sharegpt", 100, {NO_ANSWER: 80}),
        (
            "sharegpt_zh_1k.jsonl",
            "sharegpt",
            1000,
            {
                NO_ANSWER: 6,
                "message N (user) is empty": 1,
                "no assistant message, so there is nothing to learn": 1,
            },
        ),
        (
            "glaive_toolcall_zh_demo.json",
            "sharegpt",
            300,
            {"the row has 'tools': tool use is not supported": 200},
        ),
        ("firefly_dummy_pretrain.jsonl", "text", 45, {}),
    ],
)
def test_instructions(
    shared_data: Path, name: str, layout: str, rows: int, refused: dict[str, int]
) -> None:
    reasons: Counter[str] = Counter()
    records = read(shared_data / "instruct" / name)
    for record in records:
        assert layout_of(record) == layout
        try:
            parse(record)
        except DataError as error:
            reasons[re.sub(r"\d+", "N", error.message)] += 1
    assert len(records) == rows
    assert reasons == refused


def test_preferences_are_not_taken_for_answers(shared_data: Path) -> None:
    for name in ("dpo_zh_demo.json", "kto_en_demo.json", "rasbt_instruction_preference.json"):
        for record in read(shared_data / "preference" / name):
            with pytest.raises(DataError, match="a row of preferences"):
                parse(record)
