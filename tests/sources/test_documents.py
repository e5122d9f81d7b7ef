"""Documents: text and tables in reading order; whatever is wrong with one is one reject."""

from __future__ import annotations

import io
import os
import signal
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pptx
import pytest

from tongwen.sources import Reject, Row, documents, iter_rows, open_source
from tongwen.sources.compressed import File
from tongwen.sources.documents import Limits, document_rows

TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/'
    'content-types"><Default Extension="xml" ContentType="application/xml"/><Default '
    'Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
    'relationships"><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/'
    '2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def zipped(members: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def docx(body: str, before: str = "", more: Mapping[str, str | bytes] | None = None) -> bytes:
    document = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{WORD}"><w:body>{body}'
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": RELATIONS,
        "word/document.xml": document + "</w:body></w:document>",
    }
    return zipped({**members, **(more or {})})


def paragraph(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def cell(text: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def pdf(content: str, extra: str = "", box: str = "0 0 400 300", rotate: int = 0) -> bytes:
    """A document of one page, as small as one can be."""
    stream = content.encode("latin-1")
    page = (
        f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Rotate {rotate} /Contents 4 0 R "
        "/Resources << /Font << /F 5 0 R >> /XObject << /I 6 0 R >> >> >>"
    )
    picture = (
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray "
        b"/BitsPerComponent 8 /Length 1 >>\nstream\n\x80\nendstream"
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page.encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        picture,
    ]
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 7\n0000000000 65535 f \n"
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = f"trailer << /Size 7 /Root 1 0 R {extra} >>\nstartxref\n{start}\n%%EOF\n"
    return out + trailer.encode("latin-1")


def written(x: float, y: float, text: str) -> str:
    return f"BT /F 10 Tf {x} {y} Td ({text}) Tj ET\n"


def ruled(x: float, y: float) -> str:
    """A table of 3 by 3 cells of 80 by 20 points with its first column merged below its head."""
    lines = [(x, y + 60, x + 240, y + 60), (x, y + 40, x + 240, y + 40), (x, y, x + 240, y)]
    lines += [(x + 80, y + 20, x + 240, y + 20)]
    lines += [(x + step, y, x + step, y + 60) for step in (0, 80, 160, 240)]
    drawn = "".join(f"{a} {b} m {c} {d} l S\n" for a, b, c, d in lines)
    words = [["Road", "Lanes", "Area"], ["Motorway", "8", "2.5000"], ["", "6", "2.1333"]]
    for row, cells in enumerate(words):
        for column, word in enumerate(cells):
            drawn += written(x + 80 * column + 5, y + 46 - 20 * row, word)
    return drawn


TABLE = """\
| Road | Lanes | Area |
| --- | --- | --- |
| Motorway | 8 | 2.5000 |
| Motorway | 6 | 2.1333 |"""


def texts(path: Path) -> list[object]:
    """The record of each row, or the reason of each reject."""
    return [row.record if isinstance(row, Row) else row.reason for row in iter_rows([path])]


@pytest.mark.parametrize(
    ("box", "x", "y"), [("0 0 400 300", 50, 150), ("-100 -200 300 100", -50, -50)]
)
def test_a_table_of_a_pdf_stands_where_it_is_read(
    tmp_path: Path, box: str, x: float, y: float
) -> None:
    content = written(x, y + 100, "Before the table.") + ruled(x, y)
    content += written(x, y - 40, "Behind the table, a line of text.")
    (tmp_path / "a.pdf").write_bytes(pdf(content, box=box))
    [record] = texts(tmp_path / "a.pdf")
    assert record == {"text": f"Before the table.\n\n{TABLE}\n\nBehind the table, a line of text."}


def test_a_page_lying_on_its_side(tmp_path: Path) -> None:
    content = f"q 0 1 -1 0 400 0 cm {ruled(20, 200)} {written(20, 100, 'Behind it.')} Q"
    (tmp_path / "a.pdf").write_bytes(pdf(content, box="0 0 400 400", rotate=90))
    [record] = texts(tmp_path / "a.pdf")
    assert record == {"text": f"{TABLE}\n\nBehind it."}


def test_word(tmp_path: Path) -> None:
    rows = [
        cell("一", '<w:vMerge w:val="restart"/>') + cell("二", '<w:gridSpan w:val="2"/>'),
        cell("", "<w:vMerge/>") + cell("三") + cell("四"),
    ]
    table = "".join(f"<w:tr>{row}</w:tr>" for row in rows)
    body = paragraph("前⼜") + f"<w:tbl>{table}</w:tbl>" + paragraph("后")
    (tmp_path / "a.docx").write_bytes(docx(body))
    expected = "前又\n\n| 一 | 二 | 二 |\n| --- | --- | --- |\n| 一 | 三 | 四 |\n\n后"
    assert texts(tmp_path / "a.docx") == [{"text": expected}]


def epub(rights: str = "") -> bytes:
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<metadata><dc:title>书名</dc:title></metadata><manifest>"
        '<item id="b" href="b%20b.xhtml"/><item id="a" href="a.xhtml"/>'
        '<item id="n" href="nav.xhtml" properties="nav"/></manifest>'
        '<spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="O/book.opf"/></rootfiles></container>'
    )
    members: dict[str, str | bytes] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "O/book.opf": package,
        "O/a.xhtml": "<html><body><h1>第一章</h1><p>甲\n乙</p></body></html>",
        "O/b b.xhtml": "<html><body><h1>第二章</h1><p>丙</p></body></html>",
        "O/nav.xhtml": "<html><body>目录</body></html>",
    }
    return zipped(members | ({"META-INF/encryption.xml": rights} if rights else {}))


def test_the_chapters_of_an_epub(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(epub())
    assert texts(tmp_path / "a.epub") == [
        {"text": "# 第一章\n\n甲乙\n\n# 第二章\n\n丙", "title": "书名"}
    ]


def test_slides(tmp_path: Path) -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    assert slide.shapes.title is not None
    slide.shapes.title.text = "标题"
    table = slide.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for place, text in {(0, 0): "a", (0, 1): "b", (1, 0): "c"}.items():
        table.cell(*place).text = text
    table.cell(1, 0).merge(table.cell(1, 1))
    notes = slide.notes_slide.notes_text_frame
    assert notes is not None
    notes.text = "说明"
    deck.save(str(tmp_path / "a.pptx"))
    assert texts(tmp_path / "a.pptx") == [
        {"text": "## 标题\n\n| a | b |\n| --- | --- |\n| c |  |\n\n说明"}
    ]


def test_the_sheets_of_a_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in [["问题", "答案"], ["一", 1], [], ["二", 2.5], ["三", None], ["四", 4, "more"]]:
        sheet.append(row)
    other = book.create_sheet("B")
    for row in [["A title"], ["text", "text"], ["x", "y"]]:
        other.append(row)
    path = tmp_path / "a.xlsx"
    book.save(path)
    rows = [
        (row.file.name, row.line, row.record if isinstance(row, Row) else row.reason)
        for row in iter_rows([path])
    ]
    assert rows == [
        ("Sheet", 2, {"问题": "一", "答案": 1}),
        ("Sheet", 4, {"问题": "二", "答案": 2.5}),
        ("Sheet", 5, {"问题": "三", "答案": None}),
        ("Sheet", 6, "3 cells in a table of 2 columns"),
        ("B", 1, "the title “A title” above the names of the columns, not a record"),
        ("B", 2, "two columns have the name “text”"),
    ]


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        ([["text"], ["a"], ["b"]], [(2, {"text": "a"}), (3, {"text": "b"})]),
        ([["only"]], [(1, "nothing stands below the only cell, “only”")]),
        ([[None, "text"], [0, "a"]], [(2, {"column_1": 0, "text": "a"})]),
        ([[], ["text", "n"]], []),
        ([[]], []),
    ],
)
def test_a_sheet_of_one_column_is_no_title(
    tmp_path: Path, cells: list[list[object]], rows: list[tuple[int, object]]
) -> None:
    book = openpyxl.Workbook()
    for row in cells:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert [
        (row.line, row.record if isinstance(row, Row) else row.reason)
        for row in iter_rows([tmp_path / "a.xlsx"])
    ] == rows


def test_documents_may_be_packed_and_have_a_wrong_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"x.txt": docx(paragraph("一")), "y.pdf": epub()}))
    assert open_source(path).form == "zip of EPUB, Word"
    assert [row.file.name for row in iter_rows([path])] == ["x.txt", "y.pdf"]


LOCKED = (
    f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> "
    f"/ID [<{'43' * 16}> <{'43' * 16}>]"
)
RIGHTS = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData '
    'xmlns="http://www.w3.org/2001/04/xmlenc#"><CipherData><CipherReference URI="O/a.xhtml"/>'
    "</CipherData></EncryptedData></encryption>"
)
ENTITIES = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 20}">' for n in range(9))
LAUGHS = f'<!DOCTYPE x [<!ENTITY e0 "ha ha ha ha ha ha ha">{ENTITIES}]>'

BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "locked.pdf": (lambda: pdf(written(10, 10, "secret"), LOCKED), "protected by a password"),
    "scan.pdf": (lambda: pdf("q 400 0 0 300 0 0 cm /I Do Q"), "a scan without text: 0 characters"),
    "cut.pdf": (lambda: pdf(written(10, 10, "x"))[:100], "the PDF is damaged or cut off"),
    "no.pdf": (lambda: b"%PDF-1.4\n" + b"nonsense " * 50, "the PDF is damaged or cut off"),
    "empty.pdf": (lambda: pdf(""), "the document holds no text"),
    "cut.docx": (lambda: docx(paragraph("x"))[:-60], "the Word file is damaged: "),
    "laughs.docx": (lambda: docx(paragraph("&e9;"), LAUGHS), "the Word file is damaged: "),
    "bomb.docx": (
        lambda: docx(paragraph("x"), more={"word/media/a.bin": bytes(100_000_000)}),
        "decompression bomb",
    ),
    "deep.docx": (
        lambda: docx("<w:sdt><w:sdtContent>" * 5000 + "</w:sdtContent></w:sdt>" * 5000),
        "nested too deeply",
    ),
    "rights.epub": (lambda: epub(RIGHTS), "the book is protected against copying"),
    "no_spine.epub": (
        lambda: zipped({"mimetype": "application/epub+zip"}),
        "the EPUB file is damaged: ",
    ),
    "no_text.html": (lambda: b"<html><img src=x></html>", "the document holds no text"),
    "tables.html": (
        lambda: b"<table><tr><td>a<td>" * 40 + b"x",
        "tables nested more than 20 deep",
    ),
    "spans.html": (
        lambda: b"<table>" + b"<tr><td colspan=1000>a<td>b" * 500 + b"</table>",
        "a table of more than 200,000 cells",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_document_that_is_wrong_is_one_reject(tmp_path: Path, name: str) -> None:
    make, reason = BROKEN[name]
    (tmp_path / name).write_bytes(make())
    [reject] = iter_rows([tmp_path / name])
    assert isinstance(reject, Reject)
    assert reason in reject.reason
    assert "\n" not in reject.reason
    assert reject.hint


def test_a_page_nested_without_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(b"<div>" * 20_000 + b"deep")
    assert texts(tmp_path / "a.html") == [{"text": "deep"}]


def test_an_empty_document_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.html").touch()
    assert texts(tmp_path / "a.html") == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(seconds=1), "not parsed within 1 seconds"),
        (Limits(memory=120_000_000), "memory"),
        (Limits(result=1000), "holds more text than a document may have"),
    ],
)
def test_a_document_beyond_the_limits_is_one_reject(
    tmp_path: Path, limits: Limits, reason: str
) -> None:
    path = tmp_path / "a.docx"
    count = 2000 if limits.result == 1000 else 300_000
    path.write_bytes(docx(paragraph("some text") * count))
    [reject] = document_rows(File(path), "Word", limits)
    assert isinstance(reject, Reject)
    assert reason in reject.reason
    path.write_bytes(docx(paragraph("good")))
    [row] = document_rows(File(path), "Word")
    assert isinstance(row, Row)


def test_a_parser_that_is_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(docx(paragraph("good")))
    assert texts(path) == [{"text": "good"}]
    [child] = documents._running
    os.kill(child._process.pid, signal.SIGSEGV)
    [row] = iter_rows([path])
    assert isinstance(row, Reject)
    assert row.reason == "its parser broke down (SIGSEGV)"
    assert texts(path) == [{"text": "good"}]


def test_one_parser_serves_many_documents_and_ends_with_us(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(docx(paragraph("good")))
    texts(path)
    [child] = documents._running
    for _ in range(5):
        texts(path)
    assert documents._running == [child]
    documents._end()
    assert child._process.poll() is not None
