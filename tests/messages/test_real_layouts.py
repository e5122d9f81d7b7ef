"""The layouts as published files have them: how many rows are read, and why others are not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tongwen.errors import DataError
from tongwen.messages import parse_noted

EMPTY_OUTPUT = "the key 'output' is empty"
UNANSWERED = "the last question has no answer and was left out"
NO_RESULT = "message N is a tool's result, but nothing called a tool before it"
QUESTIONS = "a question ('turns') without an answer; there are"

FILES: list[tuple[str, str, int, dict[str, int], dict[str, int]]] = [
    ("instruct/alpaca_data.json", "alpaca", 52002, {}, {EMPTY_OUTPUT: 28}),
    ("instruct/alpaca_en_demo.json", "alpaca", 999, {}, {}),
    ("instruct/alpaca_seed_tasks.jsonl", "seed task", 175, {}, {}),
    ("instruct/alpaca_zh_carbonz0.json", "alpaca", 20465, {}, {EMPTY_OUTPUT: 11}),
    ("instruct/alpaca_zh_demo.json", "alpaca", 1000, {}, {}),
    (
        "instruct/alpaca_zh_translated.json",
        "alpaca",
        15186,
        {"the row has no key 'input'": 1},
        {EMPTY_OUTPUT: 8},
    ),
    ("instruct/aquila_alpaca_train.jsonl", "sharegpt", 1024, {}, {}),
    ("instruct/aquila_convo_samples.jsonl", "sharegpt", 100, {UNANSWERED: 80}, {}),
    ("instruct/belle_zh_seed_tasks.jsonl", "seed task", 175, {}, {}),
    ("instruct/firefly_dummy.jsonl", "firefly", 33, {}, {}),
    ("instruct/firefly_dummy_pretrain.jsonl", "text", 45, {}, {}),
    ("instruct/glaive_toolcall_zh_demo.json", "sharegpt", 300, {}, {NO_RESULT: 2}),
    ("instruct/identity.json", "alpaca", 91, {}, {}),
    ("instruct/medical_sft_1k.jsonl", "sharegpt", 1000, {}, {}),
    ("instruct/mt_bench_question.jsonl", "-", 80, {}, {QUESTIONS: 80}),
    ("instruct/rasbt_instruction_data.json", "alpaca", 1100, {}, {}),
    ("instruct/sharegpt_dummy_conversation.json", "sharegpt", 500, {}, {}),
    (
        "instruct/sharegpt_zh_1k.jsonl",
        "sharegpt",
        1000,
        {UNANSWERED: 6},
        {
            "message N (user) is empty": 1,
            "no assistant message, so there is nothing to learn": 1,
        },
    ),
    ("instruct/vicuna_chat_sample.jsonl", "turns", 3, {}, {}),
    ("instruct/vicuna_instruct_sample.jsonl", "alpaca", 10, {}, {}),
    ("preference/dpo_en_demo.json", "preference", 300, {}, {}),
    ("preference/dpo_zh_500.jsonl", "preference", 500, {}, {}),
    ("preference/dpo_zh_demo.json", "preference", 300, {}, {}),
    ("preference/firefly_dummy_dpo.jsonl", "preference", 16, {}, {}),
    ("preference/kto_en_demo.json", "judged", 300, {}, {}),
    (
        "preference/rasbt_instruction_preference.json",
        "preference",
        1100,
        {},
        {"the chosen and the rejected answer are the same": 6},
    ),
    ("preference/v1_dpo_demo.jsonl", "preference", 10, {}, {}),
    ("pretrain/en/llamafactory_c4_demo.jsonl", "text", 300, {}, {}),
    ("pretrain/parallel/python_docs_en_zh.jsonl", "pair", 23940, {}, {}),
    ("pretrain/parallel/rust_book_en.jsonl", "text", 105, {}, {}),
    ("pretrain/parallel/rust_book_zh.jsonl", "text", 105, {}, {}),
    ("pretrain/zh/classical_modern/三国志.jsonl", "pair", 18472, {}, {}),
    ("pretrain/zh/classical_modern/世说新语.jsonl", "pair", 3923, {}, {}),
    ("pretrain/zh/classical_modern/史记.jsonl", "pair", 30501, {}, {}),
    ("pretrain/zh/classical_modern/天工开物.jsonl", "pair", 2266, {}, {}),
    ("pretrain/zh/classical_modern/孟子.jsonl", "pair", 2136, {}, {}),
    ("pretrain/zh/classical_modern/论语.jsonl", "pair", 1171, {}, {}),
    ("pretrain/zh/classical_modern/贞观政要.jsonl", "pair", 3061, {}, {}),
    ("pretrain/zh/d2l_zh.jsonl", "text", 140, {}, {}),
    ("pretrain/zh/fewclue_eprstmt_unlabeled.jsonl", "text", 19565, {}, {}),
    ("pretrain/zh/fewclue_tnews_unlabeled.jsonl", "text", 20000, {}, {}),
    ("pretrain/zh/howtocook.jsonl", "text", 387, {}, {}),
    ("pretrain/zh/laws.jsonl", "text", 368, {}, {}),
    ("pretrain/zh/oi_wiki.jsonl", "text", 267, {}, {"the text is empty": 3}),
    ("pretrain/zh/poetry/chuci.json", "poem", 65, {}, {}),
    ("pretrain/zh/poetry/ci.song.0.json", "poem", 1000, {}, {}),
    ("pretrain/zh/poetry/daxue.json", "poem", 1, {}, {}),
    ("pretrain/zh/poetry/guwenguanzhi.json", "poem", 1, {}, {}),
    ("pretrain/zh/poetry/lunyu.json", "poem", 20, {}, {}),
    ("pretrain/zh/poetry/mengzi.json", "poem", 14, {}, {}),
    ("pretrain/zh/poetry/poet.tang.0.json", "poem", 1000, {}, {}),
    ("pretrain/zh/poetry/shijing.json", "poem", 305, {}, {}),
    ("pretrain/zh/poetry/songci300.json", "poem", 280, {}, {}),
    ("pretrain/zh/poetry/tang300.json", "poem", 366, {}, {}),
    ("pretrain/zh/poetry/yuanqu.json", "poem", 11057, {}, {"the poem has no lines": 143}),
    ("pretrain/zh/poetry/zhongyong.json", "poem", 1, {}, {}),
    ("clean/presidio_synth_v2.json", "text", 1500, {}, {}),
    ("clean/tigerbot_medical_qa_6000.jsonl", "alpaca", 6000, {}, {}),
    ("roleplay/haruhi_wukong/texts.jsonl", "text", 150, {}, {}),
]
"""File, layout, rows, and how many have which note and which error; numbers in them as N."""
NO_DATA = {
    *("instruct/dataset_info.json", "instruct/trainer_state_checkpoint5800.json"),
    *("instruct/vicuna_adapter_config_chat.json", "instruct/vicuna_adapter_config_instruct.json"),
}


def read(path: Path) -> list[object]:
    with path.open(encoding="utf-8-sig") as file:
        if path.suffix == ".json":
            value: object = json.load(file)
            return value if isinstance(value, list) else [value]
        return [json.loads(line) for line in file]


@pytest.mark.parametrize(
    ("name", "layout", "rows", "noted", "refused"),
    FILES,
)
def test_file(
    shared_data: Path,
    name: str,
    layout: str,
    rows: int,
    noted: dict[str, int],
    refused: dict[str, int],
) -> None:
    layouts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for record in read(shared_data / name):
        try:
            parsed = parse_noted(record)
        except DataError as error:
            reasons[re.sub(r"\d+", "N", error.message).partition(" 'question_id'")[0]] += 1
        else:
            layouts[parsed.layout] += 1
            notes.update(parsed.notes)
    used = rows - sum(refused.values())
    assert layouts == ({layout: used} if used else {})
    assert notes == noted
    assert reasons == refused


def test_every_file_is_listed(shared_data: Path) -> None:
    folders = [shared_data / name for name in ("instruct", "preference", "pretrain")]
    found = {
        path.relative_to(shared_data).as_posix()
        for folder in folders
        for path in folder.rglob("*.json*")
    }
    listed = {case[0] for case in FILES} | NO_DATA
    assert found == {name for name in listed if name.startswith(("instruct", "pre"))}


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("pretrain/zh/poetry/tang300.json", "在嶽詠蟬\n駱賓王\n西陸蟬聲唱，南冠客思侵。\n"),
        ("pretrain/zh/poetry/songci300.json", "湘春夜月\n黄孝迈\n近清明。\n"),
        ("pretrain/zh/poetry/shijing.json", "关雎\n关关雎鸠，在河之洲。"),
        ("pretrain/zh/poetry/guwenguanzhi.json", "古文觀止\n《古文觀止》是清人"),
        ("pretrain/parallel/python_docs_en_zh.jsonl", "Building C and C++ Extensions\n构建C/C++"),
    ],
)
def test_documents_begin_with_their_headings(shared_data: Path, name: str, begins: str) -> None:
    text = parse_noted(read(shared_data / name)[0]).item.to_record()["text"]
    assert str(text).startswith(begins)


def test_calls_of_tools(shared_data: Path) -> None:
    record = read(shared_data / "instruct/glaive_toolcall_zh_demo.json")[0]
    written = parse_noted(record).item.to_record()
    messages, tools = written["messages"], written["tools"]
    assert isinstance(messages, list)
    assert isinstance(tools, list)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    called = messages[1]["tool_calls"][0]["function"]
    assert called["name"] == tools[0]["function"]["name"] == "generate_invoice"
    assert json.loads(called["arguments"])["customer_name"]
