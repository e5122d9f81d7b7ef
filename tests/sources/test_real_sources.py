"""Real material: every file of the collection is recognised, and its rows are counted right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pypdfium2 as pdfium  # type: ignore[import-untyped]
import pytest

from tongwen.sources import Reject, Row, open_source

RECORDS = re.compile(r"(\d+) (records|lines|JSON lines|keys|rows|chars)")
HEADERS = {
    "documents/zh_chatglm_closed_issues.csv": 1,
}
"""Lines of names that the collection counts as rows."""
SETS = {
    "eval/cmmlu/dev": (402 - 67, "CSV"),
    "eval/cmmlu/test": (11_649 - 67, "CSV"),
    "eval/ceval/val": (1_398 - 52, "CSV"),
    "eval/ceval_val": (1_346, "JSON lines"),
    "eval/mmlu/dev": (285, "CSV"),
    "eval/mmlu/test": (14_042, "CSV"),
}
"""Folders of many files with their rows; the first three have a line of names in each file."""


def listed(shared_data: Path, *folders: str) -> Iterator[tuple[Path, int, bool]]:
    """Each file of the manifest, how many rows it has, and whether it is marked as GB18030."""
    for line in (shared_data / "MANIFEST.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 6 or not cells[1].startswith(folders) or "*" in cells[1]:
            continue
        match = RECORDS.match(cells[5])
        assert match or cells[5] == "binary", line
        if match:
            # One text is one document, and one object is one record, whatever is in them.
            whole = match[2] in ("keys", "chars")
            rows = 1 if whole else int(match[1]) - HEADERS.get(cells[1], 0)
            yield shared_data / cells[1], rows, "gb18030" in cells[5]


def test_every_file_is_counted_as_the_manifest_counts_it(shared_data: Path) -> None:
    wrong = []
    files = list(listed(shared_data, "instruct/", "preference/", "pretrain/", "documents/"))
    assert len(files) > 80
    for path, expected, gb18030 in files:
        source = open_source(path)
        rows = list(source.rows())
        rejects = [row for row in rows if isinstance(row, Reject)]
        encodings = ("gb18030",) if gb18030 else ("utf-8", "utf-8-sig", None)
        if len(rows) != expected or rejects or source.encoding not in encodings or source.note:
            wrong.append((path, len(rows), expected, rejects[:1], source))
    assert wrong == []


@pytest.mark.parametrize("folder", SETS)
def test_folders_of_many_files(shared_data: Path, folder: str) -> None:
    expected, form = SETS[folder]
    sources = [open_source(path) for path in sorted((shared_data / folder).rglob("*.*"))]
    assert {source.form for source in sources} == {form}
    rows = [row for source in sources for row in source.rows()]
    assert not [row for row in rows if isinstance(row, Reject)]
    assert len(rows) == expected
    if folder.startswith("eval/mmlu"):
        assert all("column_6" in row.record for row in rows)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    ("name", "form", "rows"),
    [
        ("HumanEval.jsonl.gz", "JSON lines, gzip", 164),
        ("TruthfulQA.csv", "CSV", 817),
        ("mgsm_zh.tsv", "TSV", 250),
        ("hellaswag_val.jsonl", "JSON lines", 10_042),
        ("ifeval_input_data.jsonl", "JSON lines", 540),
    ],
)
def test_benchmarks(shared_data: Path, name: str, form: str, rows: int) -> None:
    source = open_source(shared_data / "eval" / name)
    assert source.form == form
    assert sum(isinstance(row, Row) for row in source.rows()) == rows


def text(shared_data: Path, name: str) -> str:
    [row] = open_source(shared_data / "documents" / name).rows()
    assert isinstance(row, Row)
    assert isinstance(row.record, dict)
    found = row.record["text"]
    assert isinstance(found, str)
    return found


def test_the_tables_of_a_quarterly_report(shared_data: Path) -> None:
    found = text(shared_data, "pdf/zh_quarterly_report_22p.pdf")
    lines = found.splitlines()
    for row in (
        "| 营业收入（元） | 4,755,785.11 | 5,699,227.63 | -16.55% |",
        "| 总资产（元） | 298,608,889.04 | 306,236,911.04 | -2.49% |",
        "| 加权平均净资产收益率 | -2.34% | -8.06% | 上升 5.72 个百分点 |",
    ):
        assert lines.count(row) == 1
    # What stands in a table stands nowhere else: as often as in the pages themselves.
    pages = pdfium.PdfDocument(shared_data / "documents/pdf/zh_quarterly_report_22p.pdf")
    raw = "".join(page.get_textpage().get_text_range() for page in pages)
    for number in ("4,755,785.11", "298,608,889.04", "15,878,744.00"):
        assert found.count(number) == raw.count(number) > 0
    # Every one of the 26 ruled tables is there, and has cells of its own.
    assert len([line for line in lines if set(line) == set("| -")]) == 26
    assert "的扣除非经常性损益的净利润（元）" in found
    before = found.index("主要会计数据")
    assert before < found.index("| 营业收入（元） |") < found.index("非流动资产处置损益")


def test_the_merged_cells_of_a_standard(shared_data: Path) -> None:
    lines = text(shared_data, "pdf/zh_land_standard_1p.pdf").splitlines()
    assert "| 高速公路 | 八 | 2.5000 | 60000≤Q＜80000 | 20＜μ≤30 |" in lines
    assert "| 高速公路 | 六 | 2.1333 | 45000≤Q＜60000 | 20＜μ≤30 |" in lines
    assert "| 高速公路 | 四 | 1.6667 | 25000≤Q＜40000 | 20＜μ≤30 |" in lines


def test_radicals_of_a_pdf_are_characters(shared_data: Path) -> None:
    found = text(shared_data, "pdf/zh_chemistry_notes.pdf")
    assert not re.search("[\u2e80-\u2fdf]", found)
    assert "又称化学反应式、化学反应方程式，是用化学式来描述" in found


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [
        ("pdf/en_latex_multicolumn.pdf", "Suspendisse ut massa", "Nulla malesuada porttitor"),
        ("pdf/en_federal_register.pdf", "SUMMARY: The FAA proposes", "DATES: The FAA must"),
        ("word_sample.docx", "# Let’s swim!", "| Leaves | Ash, Elm, Maple | 50 |"),
        ("poetry.epub", "# ", "\n\n"),
        ("winter_sports.epub", "| I. | The Sun-seeker | 1 |", "Rinks and Skaters"),
        ("sample.pptx", "## Title Slide", "| 1 | A1 | B1 | C1 |"),
        ("wiki_duck.html", "# Duck", "## Etymology"),
        ("table_03.html", "# Header", "| A | B |"),
    ],
)
def test_reading_order(shared_data: Path, name: str, first: str, then: str) -> None:
    found = text(shared_data, name)
    assert 0 <= found.find(first) < found.rfind(then)


def test_a_page_keeps_its_article_only(shared_data: Path) -> None:
    found = text(shared_data, "wiki_duck.html")
    assert "Jump to content" not in found
    assert "Create account" not in found
    assert found.startswith("# Duck\n\n| Duck |")
