"""PDF to text, page by page: the text of pypdfium2 in its reading order, tables of pdfplumber.

A table stands where its first character stood, as a Markdown table, and its text nowhere else. Only
pages with enough ruling lines are searched for tables, since that takes fifty times as long as
reading them. Limits: tables without lines stay text; running heads and page numbers are kept.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Final

import pypdfium2 as pdfium  # type: ignore[import-untyped]
import pypdfium2.raw as raw  # type: ignore[import-untyped]

from tongwen.errors import DataError
from tongwen.sources.grids import markdown_table

if TYPE_CHECKING:
    from pdfplumber.page import Page
    from pdfplumber.table import Table

FEWEST_SEGMENTS: Final = 8
"""Lines, or sides of rectangles, that a table of two by two cells is drawn with at least."""
FEWEST_CHARACTERS: Final = 20
"""Characters of a page, on the average, below which a document is a scan."""
SOFT_HYPHENS: Final = "\x02\ufffe\xad"

WORD_GAP: Final = 0.15
"""Distance between two words in a cell, in sizes of the letters."""
FULL_ROWS: Final = 0.5
"""Share of a grid's text in cells as wide as itself, from which it is a frame and no table."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in points, from the upper left corner of the page as it is shown."""


@dataclass(frozen=True)
class _Grid:
    """A table of a page: where it is, and what it becomes."""

    box: Box
    text: str

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in the table."""
        return self.box[0] <= x <= self.box[2] and self.box[1] <= y <= self.box[3]


def pdf_text(stream: BufferedReader) -> str:
    """The text of a document; a DataError where there is none, or no way to it."""
    try:
        document = pdfium.PdfDocument(stream)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise DataError("protected by a password", "save it without the password") from None
        raise DataError("the PDF is damaged or cut off", "download it again") from None
    if len(document) == 0:
        raise DataError("the PDF has no pages")
    pages = list(_pages(document, stream))
    characters = sum(len("".join(page.split())) for page in pages)
    if characters < FEWEST_CHARACTERS * len(pages) and _pictures(document):
        raise DataError(
            f"a scan without text: {characters} characters on {len(pages)} pages",
            "recognise its text first, as with: ocrmypdf -l chi_sim+eng IN.pdf OUT.pdf",
        )
    return "\n\n".join(page for page in pages if page)


def _pages(document: pdfium.PdfDocument, stream: BufferedReader) -> Iterator[str]:
    import pdfplumber

    plumber = None
    for number in range(len(document)):
        page = document[number]
        grids: list[_Grid] = []
        if _segments(page) >= FEWEST_SEGMENTS:
            plumber = plumber or pdfplumber.open(stream)
            drawn = plumber.pages[number]
            found = (_grid(drawn, table) for table in drawn.find_tables())
            grids = [grid for grid in found if grid is not None]
            drawn.close()
        yield _page_text(page, grids)
        page.close()


def _segments(page: pdfium.PdfPage) -> int:
    """How many lines are drawn on a page."""
    paths = page.get_objects(filter=[raw.FPDF_PAGEOBJ_PATH])
    return sum(max(0, raw.FPDFPath_CountSegments(path)) for path in paths)


def _pictures(document: pdfium.PdfDocument) -> bool:
    return any(True for page in document for _ in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]))


def _page_text(page: pdfium.PdfPage, grids: Sequence[_Grid]) -> str:
    """The characters of a page, with tables in the place of those that they hold."""
    text = page.get_textpage()
    parts: list[str] = []
    left = list(grids)
    for index in range(text.count_chars()):
        char = chr(raw.FPDFText_GetUnicode(text, index))
        if grids and not char.isspace():
            place = _middle(page, text, index)
            grid = next((grid for grid in grids if grid.holds(*place)), None)
            if grid is not None:
                if grid in left:
                    left.remove(grid)
                    parts.append(f"\n\n{grid.text}\n\n")
                continue
        parts.append(char)
    text.close()
    parts += [f"\n\n{grid.text}\n\n" for grid in left]
    return _tidy("".join(parts))


def _middle(page: pdfium.PdfPage, text: pdfium.PdfTextPage, index: int) -> tuple[float, float]:
    """Where a character is on the page as it is shown, from its upper left corner."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    raw.FPDFText_GetCharBox(text, index, left, right, bottom, top)
    x0, y0, x1, y1 = page.get_mediabox()
    x, y = (left.value + right.value) / 2 - x0, (bottom.value + top.value) / 2 - y0
    width, height = x1 - x0, y1 - y0
    turned = {0: (x, height - y), 90: (y, x), 180: (width - x, y), 270: (height - y, width - x)}
    return turned[page.get_rotation()]


def _tidy(text: str) -> str:
    """Line ends as everywhere, words hyphenated at a line's end whole, no row of blank lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    # pdfium writes its own sign for a hyphen that only breaks a line.
    for hyphen in SOFT_HYPHENS:
        text = text.replace(f"{hyphen}\n", "").replace(hyphen, "")
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    lines: list[str] = []
    for line in map(str.rstrip, text.split("\n")):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip("\n")


def _grid(page: Page, table: Table) -> _Grid | None:
    """A table as Markdown; None for a frame around text, or lines that enclose nothing."""
    rows = table.extract(x_tolerance_ratio=WORD_GAP)
    cells = [
        (box, (text or "").strip())
        for row, line in zip(table.rows, rows, strict=True)
        for box, text in zip(row.cells, line, strict=True)
        if box is not None
    ]
    texts = [text for _, text in cells]
    filled = sum(any((row[column] or "").strip() for row in rows) for column in range(len(rows[0])))
    left, top, right, bottom = table.bbox
    wide = sum(len(text) for box, text in cells if box[2] - box[0] > 0.95 * (right - left))
    if len(rows) < 2 or filled < 2 or wide > FULL_ROWS * sum(map(len, texts)):
        return None
    x0, y0 = page.bbox[:2]
    box = (left - x0, top - y0, right - x0, bottom - y0)
    return _Grid(box, markdown_table(_places(table, [box for box, _ in cells]), texts))


def _places(table: Table, cells: Sequence[Box]) -> list[list[int | None]]:
    """Which cell covers each place of a table."""
    columns = [
        next((cell[0] for cell in column if cell is not None), None)
        for column in zip(*(row.cells for row in table.rows), strict=True)
    ]
    return [
        [None if left is None else _cover(cells, left + 1, row.bbox[1] + 1) for left in columns]
        for row in table.rows
    ]


def _cover(cells: Sequence[Box], x: float, y: float) -> int | None:
    inside = (
        number for number, (x0, y0, x1, y1) in enumerate(cells) if x0 <= x <= x1 and y0 <= y <= y1
    )
    return next(inside, None)
