"""Files become rows: forms and encodings are recognised, lines are right, nothing is lost."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.sources import Reject, Row, expand, iter_rows, jsonrows, open_source, window
from tongwen.sources.compressed import File

RECORDS = [{"text": "一"}, {"text": "two\nlines"}, {"text": "三"}]


def rows(path: Path) -> list[tuple[int, object]]:
    """Line and record of each row, or line and reason of each reject."""
    return [
        (row.line, row.record if isinstance(row, Row) else row.reason) for row in iter_rows([path])
    ]


def test_expand_sorts_folders_and_leaves_hidden_files_out(tmp_path: Path) -> None:
    for name in ["b.txt", "a/z.jsonl", "a/y.MD", ".hidden/x.txt", ".x.txt", "c.py", "d.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = expand([tmp_path / "b.txt", tmp_path])
    names = [path.relative_to(tmp_path).as_posix() for path in found.files]
    assert names == ["b.txt", "d.csv", "a/y.MD", "a/z.jsonl"]
    assert [path.name for path in found.ignored] == ["c.py"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.txt", "does not exist"),
        ("picture.dat", "picture.dat is not read: a picture"),
        ("empty", "no data files in"),
    ],
)
def test_expand_refuses(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "picture.dat").write_bytes(b"\x89PNG\r\n\x1a\n")
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
        values = list(jsonrows.json_values(File(path), "utf-8"))
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


def test_patterns_find_what_a_shell_would_find(tmp_path: Path) -> None:
    for name in ["a/x.jsonl", "a/b/y.jsonl", "a/b/z.txt", "a/.h/w.jsonl", "a/pic.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG" if name.endswith("png") else b"")

    def names(pattern: str) -> tuple[list[str], list[str]]:
        found = expand([f"{tmp_path}/{pattern}"])
        return [path.name for path in found.files], [path.name for path in found.ignored]

    assert names("**/*.jsonl") == (["y.jsonl", "x.jsonl"], [])
    assert names("a/*") == (["y.jsonl", "z.txt", "x.jsonl"], ["pic.png"])
    with pytest.raises(DataError, match="matches nothing"):
        names("*.csv")


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("one", encoding="utf-8")
    assert [path.name for path in expand([tmp_path / "a[1].txt"]).files] == ["a[1].txt"]


def test_folders_that_are_linked_in_a_circle_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("one", encoding="utf-8")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [path.name for path in expand([tmp_path]).files] == ["x.txt"]


TABLE = "question,answer\n一,1\n二,2\n三,3\n"
JSON_LINE = '{"text": "一"}\n{"text": "二"}\n'


@pytest.mark.parametrize(
    ("name", "text", "form", "note"),
    [
        ("a.txt", JSON_LINE, "JSON lines", "ends in .txt, but holds JSON lines"),
        ("a.csv", JSON_LINE, "JSON lines", "ends in .csv, but holds JSON lines"),
        ("a.md", '[\n{"text": "一"},\n{"text": "二"}]', "JSON array", "ends in .md, but holds"),
        ("a.jsonl", TABLE, "CSV", "ends in .jsonl, but holds CSV"),
        ("a.txt", TABLE, "CSV", "ends in .txt, but holds CSV"),
        ("a.csv", TABLE.replace(",", "\t"), "TSV", "ends in .csv, but holds TSV"),
        ("a.csv", TABLE.replace(",", ";"), "CSV", None),
        ("a", TABLE, "CSV", None),
        ("a.txt", "<!DOCTYPE html>\n<p>一</p>", "HTML", "ends in .txt, but holds HTML"),
        ("a.txt", "Go, went, gone\nSee, saw, seen\nDo, did, done\n", "text", None),
        ("a.txt", "[1] a note\n{x} | y\n", "text", None),
        ("a.md", "| a | b |\n| --- | --- |\n| 1 | 2 |\n", "text", None),
        ("a.json", "{ broken", "JSON lines", None),
    ],
)
def test_the_content_says_what_a_file_is(
    tmp_path: Path, name: str, text: str, form: str, note: str | None
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    source = open_source(path)
    assert source.form == form
    assert (source.note or "").startswith(note or "")
    assert (source.note is None) == (note is None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n", "a picture, not data that are read"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.", "a Python pickle, which may hold a program"),
        (b"\xfd7zXZ\0", "packed with xz"),
        (b"GGUF\3\0", "model weights"),
        (bytes(range(256)) * 20, "binary data, not text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an Office document of the time"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "protected by a password",
        ),
    ],
)
def test_what_is_no_data_is_one_reject_or_ignored(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    [reject] = iter_rows([tmp_path / "a.jsonl"])
    assert isinstance(reject, Reject)
    assert reject.reason.startswith(reason)
    (tmp_path / "a.jsonl").rename(tmp_path / "a.dat")
    with pytest.raises(DataError, match="is not read"):
        expand([tmp_path / "a.dat"])
    (tmp_path / "b.txt").touch()
    assert [path.name for path in expand([tmp_path]).ignored] == ["a.dat"]


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TABLE, encoding="utf-8")
    source = open_source(path)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        back = pool.submit(copy, source).result()
    assert len(list(back.rows())) == 3


@pytest.mark.parametrize("end", ["x", "<html>"])
def test_a_page_of_many_comments_is_recognised_at_once(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("<!---->" * 5000 + end, encoding="utf-8")
    assert open_source(path).form == ("text" if end == "x" else "HTML")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "A PDF begins with %PDF-1.4"}'),
        ("a.md", "GGUF is a form of model weights."),
        ("a.md", "PAR1 stands at both ends of a Parquet file."),
        ("a.txt", "RIFF, Rar! and BZh are beginnings of other files."),
        ("a.csv", "ID3,text\n1,abc"),
    ],
)
def test_a_text_about_another_form_stays_a_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    [row] = iter_rows([tmp_path / name])
    assert isinstance(row, Row)


def test_a_pdf_begins_with_its_magic_or_has_the_ending(tmp_path: Path) -> None:
    for name, before in [("a.bin", b"\n"), ("a.pdf", b"Mail: a PDF\n")]:
        (tmp_path / name).write_bytes(before + b"%PDF-1.4\n%\xe2\xe3\n")
        assert open_source(tmp_path / name).form == "PDF"


PRINTED = '{"messages": [\n  {"role": "user", "content": "一"}\n]}\n'


def test_objects_that_open_an_array_in_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(PRINTED * 2, encoding="utf-8")
    assert open_source(path).form == "JSON objects"
    assert rows(path) == [(line, json.loads(PRINTED)) for line in (1, 4)]


@pytest.mark.parametrize("cut", ['{"text": "cut, o', '{"text": "cut ['])
def test_a_first_line_that_is_cut_off_leaves_the_others(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{cut}\n{JSON_LINE}", encoding="utf-8")
    assert open_source(path).form == "JSON lines"
    assert [line for line, record in rows(path) if isinstance(record, dict)] == [2, 3]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.dat"])
def test_json_in_utf_16_needs_no_mark(tmp_path: Path, encoding: str, name: str) -> None:
    (tmp_path / name).write_text(JSON_LINE, encoding=encoding)
    assert open_source(tmp_path / name).encoding == encoding
    assert rows(tmp_path / name) == [(1, {"text": "一"}), (2, {"text": "二"})]


def test_a_link_to_itself_holds_no_data(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    found = expand([tmp_path])
    assert [path.name for path in found.files] == ["a.txt"]
    assert [path.name for path in found.ignored] == ["self"]
    with pytest.raises(DataError, match="does not exist"):
        expand([tmp_path / "self"])


def test_a_name_that_no_file_can_have_does_not_exist() -> None:
    with pytest.raises(DataError, match="does not exist"):
        expand(["a" * 5000])
