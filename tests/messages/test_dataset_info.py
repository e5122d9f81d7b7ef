"""Entries of LLaMA-Factory's dataset_info.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tongwen.errors import ConfigError, DataError
from tongwen.messages import load_entry, load_mapping, parse

ENTRIES = {
    "plain": {"file_name": "plain.json"},
    "named": {"file_name": "x.json", "columns": {"prompt": "q", "response": "a"}},
    "text": {"file_name": "wiki.txt", "columns": {"prompt": "text"}},
    "chat": {
        "file_name": "chat.json",
        "formatting": "sharegpt",
        "columns": {"messages": "talk", "system": "sys", "tools": "tools"},
        "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "it"},
    },
    "openai": {"file_name": "m.json", "formatting": "openai"},
    "pairs": {
        "file_name": "dpo.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "good", "rejected": "bad"},
    },
    "ranked": {"file_name": "dpo.json", "ranking": True},
    "kto": {
        "file_name": "kto.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "kto_tag": "label"},
        "tags": {"role_tag": "role", "content_tag": "content"},
    },
    "hub": {"hf_hub_url": "org/data", "ms_hub_url": "org/data", "split": "full", "subset": "zh"},
    "pictures": {"file_name": "p.json", "columns": {"messages": "m", "images": "images"}},
    "script": {"script_url": "x.py"},
    "drawn": {"file_name": "x.json", "num_samples": 100},
    "slip": {"file_name": "x.json", "colums": {}},
    "slip2": {"file_name": "x.json", "columns": {"promt": "q"}},
    "odd": {"file_name": "x.json", "formatting": "csv"},
}


@pytest.fixture
def info(tmp_path: Path) -> Path:
    file = tmp_path / "dataset_info.json"
    file.write_text(json.dumps(ENTRIES), "utf-8")
    return file


U = {"role": "user", "content": "a"}
A = {"role": "assistant", "content": "b"}
TALK = [
    {"who": "me", "what": "a"},
    {"who": "function_call", "what": '{"name": "f", "arguments": {}}'},
    {"who": "observation", "what": "1"},
    {"who": "it", "what": "b"},
]


@pytest.mark.parametrize(
    ("name", "row", "messages"),
    [
        ("plain", {"instruction": "a", "input": "", "output": "b", "system": "s"}, [U, A]),
        ("named", {"q": "a", "a": "b", "input": "x"}, [U, A]),
        ("openai", {"messages": [U, A]}, [U, A]),
        ("kto", {"messages": [U, A], "label": True}, [U, A]),
    ],
)
def test_conversations(info: Path, name: str, row: object, messages: object) -> None:
    assert parse(row, load_mapping(info, name)).to_record()["messages"] == messages


def test_tags_and_columns(info: Path) -> None:
    row = {"talk": TALK, "sys": "s", "tools": '[{"name": "f"}]'}
    record = parse(row, load_mapping(f"{info}#chat")).to_record()
    messages = record["messages"]
    assert isinstance(messages, list)
    roles = [message["role"] for message in messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant"]
    assert record["tools"] == [{"type": "function", "function": {"name": "f"}}]


def test_preferences(info: Path) -> None:
    row = {
        "conversations": [{"from": "human", "value": "a"}],
        "good": {"from": "gpt", "value": "b"},
        "bad": {"from": "gpt", "value": "c"},
    }
    assert parse(row, load_mapping(info, "pairs")).to_record()["chosen"] == [A]
    row = {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"}
    assert parse(row, load_mapping(info, "ranked")).to_record()["prompt"] == [U]


def test_text(info: Path) -> None:
    assert parse({"text": "a"}, load_mapping(info, "text")).to_record() == {"text": "a"}


def test_data_sets_in_the_network_say_so(info: Path) -> None:
    entry = load_entry(info, "hub")
    assert (entry.file, entry.split, entry.subset) == (None, "full", "zh")
    with pytest.raises(DataError, match="is at the Hugging Face hub as org/data"):
        entry.source()


def test_files_are_beside_the_list(info: Path) -> None:
    entry = load_entry(info, "plain")
    with pytest.raises(DataError, match="which does not exist"):
        entry.source()
    (info.parent / "plain.json").write_text("[]", "utf-8")
    assert entry.source() == info.parent / "plain.json"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("pictures", "has the column 'images': other media than text", "leave the column out"),
        ("script", "no code of a data set is run", ""),
        ("drawn", "asks for 100 rows", "a file of their own"),
        ("slip", "unknown key 'colums'", "did you mean 'columns'?"),
        ("slip2", "unknown key 'promt'", "did you mean 'prompt'?"),
        ("odd", "has the formatting 'csv'", "alpaca, sharegpt, openai"),
        ("plian", "has no data set 'plian'", "did you mean 'plain'?"),
        (None, "which of them?", "#NAME"),
    ],
)
def test_refused(info: Path, name: str | None, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_mapping(info, name)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("content", ["[]", "{", "\udcff"])
def test_broken_lists(tmp_path: Path, content: str) -> None:
    file = tmp_path / "dataset_info.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"dataset_info\.json is"):
        load_mapping(file, "a")


def test_every_published_entry_is_understood(shared_data: Path) -> None:
    file = shared_data / "instruct" / "dataset_info.json"
    names = list(json.loads(file.read_text("utf-8")))
    assert len(names) == 104
    media = "other media than text are not supported"
    outcomes: Counter[str] = Counter()
    for name in names:
        try:
            entry = load_entry(file, name)
        except ConfigError as error:
            outcomes[error.message.rpartition(": ")[2]] += 1
        else:
            outcomes["here" if entry.hub is None else "network"] += 1
    assert outcomes == {"here": 10, "network": 81, media: 13}


@pytest.mark.parametrize(
    ("name", "folder", "rows"),
    [
        ("identity", "instruct", 91),
        ("alpaca_zh_demo", "instruct", 1000),
        ("glaive_toolcall_zh_demo", "instruct", 298),
        ("dpo_zh_demo", "preference", 300),
        ("kto_en_demo", "preference", 300),
        ("c4_demo", "pretrain/en", 300),
    ],
)
def test_published_files_read_the_same_with_and_without_their_entry(
    shared_data: Path, name: str, folder: str, rows: int
) -> None:
    mapping = load_mapping(shared_data / "instruct" / "dataset_info.json", name)
    found = list((shared_data / folder).glob(f"*{name}.json*"))
    text = found[0].read_text("utf-8")
    records = (
        json.loads(text)
        if text[0] == "["
        else [json.loads(line) for line in text.split("\n") if line]
    )
    same = 0
    for record in records:
        try:
            item = parse(record)
        except DataError:
            continue
        assert parse(record, mapping) == item
        same += 1
    assert same == rows
