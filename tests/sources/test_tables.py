"""Tables: names and cells, the line where a record begins, and what each damage costs."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import struct
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.feather as feather  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.sources import Row, iter_rows, open_source, tables
from tongwen.sources.compressed import File
from tongwen.sources.dialect import Dialect


def rows(path: Path) -> list[tuple[int, object]]:
    """Line and record of each row, or line and reason of each reject."""
    return [
        (row.line, row.record if isinstance(row, Row) else row.reason) for row in iter_rows([path])
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "big5"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table(tmp_path: Path, encoding: str, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    text = "問題,答案\r\n你今天好不好,很好\r\n\r\n不知道,我們也不知道\r\n他們來了,大家都好\r\n"
    path.write_bytes(text.replace(",", delimiter).encode(encoding))
    assert open_source(path).encoding == ("cp950" if encoding == "big5" else encoding) or encoding
    assert rows(path) == [
        (2, {"問題": "你今天好不好", "答案": "很好"}),
        (4, {"問題": "不知道", "答案": "我們也不知道"}),
        (5, {"問題": "他們來了", "答案": "大家都好"}),
    ]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    records=st.lists(st.tuples(cells, cells, cells), max_size=8),
    delimiter=st.sampled_from(",\t;"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str, str]],
    delimiter: str,
    end: str,
) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "b", "c"), *records])
    path.write_bytes(out.getvalue().encode())
    found = list(tables.csv_rows(File(path), "utf-8", Dialect(delimiter)))
    kept = [record for record in records if any(record)]
    assert [row.record for row in found if isinstance(row, Row)] == [
        dict(zip(("text", "b", "c"), record, strict=True)) for record in kept
    ]
    assert len(found) == len(kept)


def test_each_damage_costs_its_record(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'question,answer\none,"1\n1"\ntoo,many,cells\ntoo few\n"a" b,2\nthree,nul \0\n'
        + "四,".encode()
        + b"\xff\n"
        + b'five,"never closed\nsix,6\n'
    )
    assert rows(path) == [
        (2, {"question": "one", "answer": "1\n1"}),
        (4, "3 cells in a table of 2 columns"),
        (5, "1 cells in a table of 2 columns"),
        (6, "a quote closes in the middle of a cell"),
        (7, "the text holds a NUL character"),
        (8, "bytes that are not utf-8"),
        (9, "a quote opens in line 9 and is not closed"),
        (10, {"question": "six", "answer": "6"}),
    ]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("text,label,text", "two columns have the name “text”"),
        ("text,,label", "column 2 of the header has no name"),
    ],
)
def test_columns_without_names_of_their_own_are_one_reject(
    tmp_path: Path, header: str, reason: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\na,b,c\nd,e,f\n", encoding="utf-8")
    assert rows(path) == [(1, reason)]


def test_the_numbers_of_rows_that_pandas_writes_have_no_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",question,answer\n0,一,1\n", encoding="utf-8")
    assert rows(path) == [(2, {"column_1": "0", "question": "一", "answer": "1"})]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("你好吗？,18\n他好吗？,20\n", False),
        ("The capital of France is,Paris,Rome,A\nThe capital of Italy is,Paris,Rome,B\n", False),
        ("question,answer\nWhat is it?,18\n", True),
        ("year,2023,2024\nsum,1,2\n", True),
        ("您对课程满意吗？,您的姓名？\n满意,张三\n不满意,李四\n", True),
        (",Question,A,B,C,D,Answer\n0,哪个对？,一,二,三,四,A\n", True),
    ],
)
def test_whether_the_first_line_names_columns(tmp_path: Path, text: str, header: bool) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    assert len(rows(path)) == len(text.splitlines()) - header
    assert (open_source(path).note is None) == header


def test_quotes_in_a_tsv_may_be_only_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('en\tzh\n"Yes\t“是\nHe said "no"\t他说“不”\n', encoding="utf-8")
    assert rows(path) == [
        (2, {"en": '"Yes', "zh": "“是"}),
        (3, {"en": 'He said "no"', "zh": "他说“不”"}),
    ]


def test_a_long_record_is_refused_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "RECORD_LIMIT", 100)
    path = tmp_path / "a.csv"
    path.write_text(f"text,n\none,1\n{'long ' * 100},2\nthree,3\n", encoding="utf-8")
    assert rows(path) == [
        (2, {"text": "one", "n": "1"}),
        (3, "a record of more than 100 characters"),
        (4, {"text": "three", "n": "3"}),
    ]


RECORDS = [
    {
        "messages": [{"role": "user", "content": f"问{number}"}],
        "day": datetime.date(2024, 1, 2),
        "price": decimal.Decimal("1.50"),
        "raw": b"\xe4\xb8\x80",
        "nothing": None,
        "score": 0.5,
    }
    for number in range(200)
]
PLAIN = [record | {"day": "2024-01-02", "price": "1.50", "raw": "一"} for record in RECORDS]


@pytest.mark.parametrize("form", ["Parquet", "Feather", "Arrow"])
def test_column_files(tmp_path: Path, form: str) -> None:
    path = tmp_path / {"Parquet": "a.txt", "Feather": "a.feather", "Arrow": "a.arrow"}[form]
    table = pa.Table.from_pylist(RECORDS)
    if form == "Parquet":
        pq.write_table(table, path, row_group_size=70)
    elif form == "Feather":
        feather.write_feather(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    assert open_source(path).form == form
    assert rows(path) == list(enumerate(PLAIN, 1))


def test_a_column_of_pictures_rejects_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "image": [b"\x89PNG\xff"]}), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == [
        (1, "the column “image” holds 5 bytes that are not text")
    ]


def test_a_damaged_parquet_is_one_reject(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), path)
    path.write_bytes(path.read_bytes()[:-20])
    [(line, reason)] = rows(path)
    assert line == 1
    assert str(reason).startswith("the file is damaged: ")


def test_a_record_of_many_lines_at_the_limit_does_not_end_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "RECORD_LIMIT", 30)
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"20 characters or so.\n20 characters or so.",1\nb,2\n', "utf-8")
    assert [line for line, _ in rows(path)] == [2, 4]
    never = '"' + "never closed\n" * 5
    path.write_text(f"text,n\n{never}b,2\n", encoding="utf-8")
    found = rows(path)
    assert found[0] == (2, "a quote opens in line 2 and is not closed")
    assert found[-1] == (7, {"text": "b", "n": "2"})
    assert len(found) == 6


def test_a_very_long_number_is_no_name_and_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{'1' * 100_000}x,b\n1,2\n", encoding="utf-8")
    assert [line for line, _ in rows(path)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。\n", [1, 2]),
        ("春眠不觉晓\n处处闻啼鸟\n夜来风雨声\n", [1, 2, 3]),
        ("1\n2\n", [1, 2]),
        ("2023\n2024\n", [1, 2]),
        ("sum\n1\n2\n", [2, 3]),
        ("remark\n我们明天再去公园里看一看吧\n很好，大家都没有什么意见\n", [2, 3]),
        ("text\n春眠不觉晓，处处闻啼鸟。\n", [2]),
    ],
)
def test_one_column_may_have_no_name(tmp_path: Path, text: str, lines: list[int]) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    assert [line for line, _ in rows(tmp_path / "a.csv")] == lines


def test_without_its_names_a_table_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('question,"answer\none,1\ntwo,2\n', encoding="utf-8")
    [(line, reason)] = rows(path)
    assert line == 1
    assert str(reason).startswith("a quote opens in line 1 and is not closed; without the names")


@pytest.mark.parametrize(
    ("name", "names", "form"),
    [
        ("a.txt", "桥\t年代", "text"),
        ("a.md", "桥\t年代", "text"),
        ("a.txt", "问题\t年代", "TSV"),
        ("a", "桥\t年代", "TSV"),
    ],
)
def test_a_text_with_tabs_is_a_table_where_it_names_a_known_column(
    tmp_path: Path, name: str, names: str, form: str
) -> None:
    (tmp_path / name).write_text(f"{names}\n一\t二\n三\t四\n", encoding="utf-8")
    assert open_source(tmp_path / name).form == form


def test_a_date_that_python_does_not_know_costs_its_row(tmp_path: Path) -> None:
    days = pa.array([1, 2**30, 3], pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"text": ["a", "b", "c"], "day": days}), tmp_path / "a.parquet")
    first, (line, reason), third = rows(tmp_path / "a.parquet")
    assert first == (1, {"text": "a", "day": "1970-01-02"})
    assert line == 2
    assert str(reason).startswith("a value that cannot be read: ")
    assert third == (3, {"text": "c", "day": "1970-01-04"})


def test_whatever_a_column_file_raises_is_one_reject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pq, "ParquetFile", fail)
    (tmp_path / "a.parquet").write_bytes(b"PAR1\0")
    assert rows(tmp_path / "a.parquet") == [(1, "the file is damaged: MemoryError")]


def test_offsets_that_lead_out_of_an_arrow_file_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.feather"
    feather.write_feather(pa.table({"text": ["a", "bb", "ccc"]}), path, compression="uncompressed")
    whole = path.read_bytes()
    offsets = struct.pack("<4i", 0, 1, 3, 6)
    assert whole.count(offsets) == 1
    path.write_bytes(whole.replace(offsets, struct.pack("<4i", 0, 1, 2**30, 2**30)))
    [(line, reason)] = rows(path)
    assert line == 1
    assert str(reason).startswith("the file is damaged: ")
