"""Files become rows: forms and encodings are recognised, lines are right, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.sources import Reject, Row, expand, iter_rows, jsonrows, open_source, window

RECORDS = [{"text": "一"}, {"text": "two\nlines"}, {"text": "三"}]


def rows(path: Path) -> list[tuple[int, object]]:
    """Line and record of each row, or line and reason of each reject."""
    return [
        (row.line, row.record if isinstance(row, Row) else row.reason) for row in iter_rows([path])
    ]


def test_expand_sorts_folders_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.jsonl", "a/y.MD", ".hidden/x.txt", ".x.txt", "c.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = expand([tmp_path / "b.txt", tmp_path])
    names = [path.relative_to(tmp_path).as_posix() for path in found.files]
    assert names == ["b.txt", "a/y.MD", "a/z.jsonl"]
    assert [path.name for path in found.ignored] == ["c.csv"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.txt", "does not exist"),
        ("table.csv", "cannot tell what .* is by its ending"),
        ("empty", "no data files in"),
    ],
)
def test_expand_refuses(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "table.csv").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        expand([tmp_path / name])


def test_json_lines_count_from_one_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\n{"text": "一"}\r\n  \n{"text": "二"}', encoding="utf-8")
    assert open_source(path).form == "JSON lines"
    assert rows(path) == [(2, {"text": "一"}), (4, {"text": "二"})]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_array(tmp_path: Path, indent: int | None, encoding: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(RECORDS, ensure_ascii=False, indent=indent), encoding=encoding)
    lines = [1, 1, 1] if indent is None else [2, 5, 8]
    source = open_source(path)
    assert (source.form, source.encoding) == ("JSON array", encoding)
    assert rows(path) == list(zip(lines, RECORDS, strict=True))


def test_json_objects_one_after_another(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = "\n".join(json.dumps(record, ensure_ascii=False, indent=1) for record in RECORDS)
    path.write_text(text, encoding="utf-8")
    assert open_source(path).form == "JSON objects"
    assert rows(path) == list(zip([1, 4, 7], RECORDS, strict=True))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(max_examples=60)
@given(
    records=st.lists(json_values, max_size=8),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
)
def test_an_array_reads_the_same_in_chunks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[object],
    chunk: int,
    indent: int | None,
) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    path.write_text(json.dumps(records, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "CHUNK", chunk)
        values = list(jsonrows.json_values(path, "utf-8"))
    assert [value.reason for value in values] == [None] * len(records)
    assert [value.record for value in values] == records


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("第一段。\r\n\r\n第二段。\r\n".encode())
    assert rows(path) == [(1, {"text": "第一段。\n\n第二段。\n"})]


def test_text_in_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    text = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？\n" * 5
    path.write_bytes(text.encode("gb18030"))
    assert open_source(path).encoding == "gb18030"
    assert rows(path) == [(1, {"text": text})]


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.jsonl"])
@pytest.mark.parametrize("text", ["", " \n\n"])
def test_a_file_without_rows(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert rows(tmp_path / name) == []


@pytest.mark.parametrize(
    ("text", "lines", "reason"),
    [
        ('[\n{"a": 1},\n{"b": 2},\n{"c"', [2, 3, 4], "the record is cut off"),
        ('[\n{"a": 1},\n{"b": 2}\n', [2, 3, 4], "the array is cut off: the file ends without"),
        ('[\n{"a": 1}\n{"b": 2}]', [2, 3], "a comma is missing before “{”"),
        ('[\n{"a": 1},\n{"b": oops},\n{"c": 3}]', [2, 3], "not JSON: expecting value at line 3"),
        ('[\n{"a": 1}]\nmore', [2, 3], "something stands behind the end of the array"),
        ('[\n{"a": "\0"}]', [2], "a NUL character stands in the record"),
        ("[" * 100_000, [1], "the JSON is nested too deeply"),
    ],
)
def test_a_broken_array_keeps_the_rows_before(
    tmp_path: Path, text: str, lines: list[int], reason: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    found = list(iter_rows([path]))
    assert [row.line for row in found] == lines
    assert all(isinstance(row, Row) for row in found[:-1])
    last = found[-1]
    assert isinstance(last, Reject)
    assert last.reason.startswith(reason)
    assert last.hint


def test_one_bad_record_of_an_array_can_be_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(
        b'[{"text": "' + "坏".encode("gbk") + b'"},\n{"a": 1, "a": 2},\n{"text": "good"}]'
    )
    assert rows(path) == [
        (1, "byte 0xBB at byte 11 of the record is not UTF-8"),
        (2, "the key “a” stands twice in one object"),
        (3, {"text": "good"}),
    ]


def test_a_long_record_is_refused_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonrows, "RECORD_LIMIT", 100)
    long = {"text": "长" * 100}
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(record, ensure_ascii=False) for record in [RECORDS[0], long, RECORDS[2]]]
    path.write_text("\n".join(lines), encoding="utf-8")
    reason = "the record has 313 bytes, the longest accepted is 100"
    assert rows(path) == [(1, RECORDS[0]), (2, reason), (3, RECORDS[2])]
    path.write_text(json.dumps([RECORDS[0], long], ensure_ascii=False), encoding="utf-8")
    assert rows(path) == [(1, RECORDS[0]), (1, reason.replace("313", "312"))]


def test_undecodable_text_is_rejected_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfgood\nbad \xff\n")
    assert rows(path) == [(2, "byte 0xFF at offset 12 is not utf-8")]
    path.write_text("good\nbad \0\n", encoding="utf-8")
    assert rows(path) == [(2, "the text holds a NUL character")]
