"""Ten broken inputs: each is rejected with its file, its line and a reason that helps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare

GOOD = '{"instruction": "你好", "input": "", "output": "你好！"}'.encode()


@dataclass(frozen=True)
class Broken:
    """One bad line and what is said about it."""

    name: str
    line: bytes
    reason: str
    hint: str


TWO_SYSTEMS = [
    {"role": "system", "content": "a"},
    {"role": "system", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]
BROKEN = [
    Broken(
        "missing key",
        '{"instruction": "你好", "input": ""}'.encode(),
        "the key 'output' is missing",
        "add 'output', or remove the row",
    ),
    Broken(
        "empty answer",
        '{"instruction": "你好", "output": " "}'.encode(),
        "the key 'output' is empty",
        "fill in the answer, or remove the row",
    ),
    Broken(
        "wrong type",
        b'{"instruction": "1 + 1", "output": 2}',
        "the key 'output' is a number, not text",
        "write text there, or remove the row",
    ),
    Broken(
        "truncated JSON",
        b'{"instruction": "hi", "output": "he',
        "the JSON is cut off after 35 characters: unterminated string starting",
        "a record must stand complete on one line",
    ),
    Broken(
        "GBK bytes",
        '{"instruction": "你好吗，今天天气怎么样", "output": "很好，谢谢你的关心"}'.encode("gbk"),
        f"byte 0xC4 at offset {len(GOOD) + 18} (byte 18 of the line) is not UTF-8",
        "re-encode the file as UTF-8",
    ),
    Broken(
        "NUL",
        b'{"instruction": "hi\0", "output": "hello"}',
        "a NUL character stands in the record",
        "the file was damaged when it was written or copied; write it again",
    ),
    Broken(
        "NUL as an escape",
        rb'{"instruction": "hi\u0000", "output": "hello"}',
        "message 1 (user) holds a NUL at character 3",
        "the source is damaged or not text; remove the NUL, or remove the row",
    ),
    Broken(
        "10 MB line",
        b'{"instruction": "hi", "output": "' + b"long " * 2_000_000 + b'"}',
        "the record has 10,000,036 bytes, the longest accepted is 4,000,000",
        "split it, or give a long text as a .txt file of its own",
    ),
    Broken(
        "duplicate keys",
        b'{"instruction": "hi", "output": "hello", "output": "bye"}',
        "the key “output” stands twice in one object",
        "keep one of the two",
    ),
    Broken(
        "two system messages",
        json.dumps({"messages": TWO_SYSTEMS}).encode(),
        "2 system messages (messages 1, 2), at most one is possible",
        "join them into one at the start",
    ),
    Broken(
        "no assistant turn",
        b'{"messages": [{"role": "user", "content": "hi"}]}',
        "no assistant message, so there is nothing to learn",
        "add the answer, or remove the row",
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_line_costs_that_line(
    tmp_path: Path, tokenizer_folder: Path, broken: Broken
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"\n".join([GOOD, broken.line, GOOD]))
    out = tmp_path / "out"
    config = DataPrepareConfig(
        sources=[source], out=out, tokenizer=tokenizer_folder, hold_out=0, duplicates="keep"
    )
    result = data_prepare(config)
    assert (result.rows_in, result.used, result.held_out, result.rejected) == (3, 2, 0, 1)
    [reject] = map(json.loads, result.rejects.read_text(encoding="utf-8").splitlines())
    assert (reject["file"], reject["line"]) == (source.as_posix(), 2)
    assert reject["reason"].startswith(broken.reason)
    assert reject["hint"].startswith(broken.hint)


def test_all_of_them_in_one_array(tmp_path: Path, tokenizer_folder: Path) -> None:
    """In an array the rows behind a broken one are kept where its end can be found."""
    kept = [broken for broken in BROKEN if broken.name not in ("truncated JSON", "NUL")]
    lines = [GOOD, *(broken.line for broken in kept), GOOD]
    source = tmp_path / "rows.json"
    source.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")
    config = DataPrepareConfig(
        sources=[source],
        out=tmp_path / "out",
        tokenizer=tokenizer_folder,
        hold_out=0,
        duplicates="keep",
    )
    result = data_prepare(config)
    assert (result.rows_in, result.used, result.rejected) == (len(lines), 2, len(kept))
    rejects = [json.loads(line) for line in result.rejects.open(encoding="utf-8")]
    assert [reject["line"] for reject in rejects] == list(range(3, 3 + len(kept)))
