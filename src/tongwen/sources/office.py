"""Word, EPUB, PowerPoint and Excel to text and rows."""

from __future__ import annotations

import datetime
import io
import posixpath
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote

from selectolax.lexbor import LexborHTMLParser

from tongwen.errors import DataError
from tongwen.sources.compressed import check_members
from tongwen.sources.dialect import column_names
from tongwen.sources.grids import markdown_table
from tongwen.sources.html import html_text
from tongwen.text import decode

if TYPE_CHECKING:
    from pptx.shapes.base import BaseShape
    from pptx.table import Table

Record = tuple[str | None, int, object]
"""Sheet, row from 1, and the record; a DataError in its place for a row that is none."""


def word_text(stream: BinaryIO) -> str:
    """The text of a .docx; lists, headings and tables as in Markdown, pictures left out."""
    import mammoth  # type: ignore[import-untyped]

    _check(stream)
    no_pictures = mammoth.images.img_element(lambda _: {"src": ""})
    # mammoth takes the name of an open file for its path, and ours have none.
    whole = io.BytesIO(stream.read())
    html = mammoth.convert_to_html(whole, convert_image=no_pictures).value
    return html_text(LexborHTMLParser(html))


def epub_text(stream: BinaryIO) -> tuple[str, str]:
    """The chapters of an EPUB in the order of its spine, and its title."""
    _check(stream)
    with zipfile.ZipFile(stream) as archive:
        container = ET.fromstring(archive.read("META-INF/container.xml"))
        package = _found(container, "rootfile").attrib["full-path"]
        book = ET.fromstring(archive.read(package))
        items = {node.attrib["id"]: node.attrib for node in _nodes(book, "item")}
        spine = [items[node.attrib["idref"]] for node in _nodes(book, "itemref")]
        folder = posixpath.dirname(package)
        places = [
            posixpath.normpath(posixpath.join(folder, unquote(item["href"])))
            for item in spine
            if "nav" not in item.get("properties", "").split()
        ]
        _check_rights(archive, places)
        texts = [html_text(LexborHTMLParser(decode(archive.read(place)))) for place in places]
    title = next(_nodes(book, "title"), None)
    return "\n\n".join(filter(None, texts)), (title.text or "").strip() if title is not None else ""


def powerpoint_text(stream: BinaryIO) -> str:
    """The slides of a .pptx: titles as headings, text, tables, and the speaker's notes."""
    import pptx

    _check(stream)
    slides = []
    for slide in pptx.Presentation(stream).slides:
        title = slide.shapes.title
        parts = [f"## {title.text_frame.text.strip()}"] if title and title.text_frame.text else []
        rest = (shape for shape in slide.shapes if not title or shape.shape_id != title.shape_id)
        parts += _shapes(rest)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame:
            parts.append(slide.notes_slide.notes_text_frame.text)
        slides.append("\n\n".join(part.strip() for part in parts if part.strip()))
    return "\n\n".join(filter(None, slides)).replace("\v", "\n")


def _shapes(shapes: Iterable[BaseShape]) -> Iterator[str]:
    for shape in shapes:
        inner: Any = shape
        if hasattr(inner, "shapes"):
            yield from _shapes(inner.shapes)
        elif inner.has_text_frame:
            yield inner.text_frame.text
        elif getattr(inner, "has_table", False):
            yield _slide_table(inner.table)


def _slide_table(table: Table) -> str:
    places: list[list[int | None]] = [[None] * len(table.columns) for _ in table.rows]
    texts: list[str] = []
    for y, row in enumerate(table.rows):
        for x, cell in enumerate(row.cells):
            if cell.is_spanned:
                continue
            height, width = (cell.span_height, cell.span_width) if cell.is_merge_origin else (1, 1)
            for down in range(height):
                places[y + down][x : x + width] = [len(texts)] * width
            texts.append(cell.text_frame.text)
    return markdown_table(places, texts) if any(texts) else ""


def excel_rows(stream: BinaryIO) -> Iterator[Record | tuple[str | None, int, DataError]]:
    """The rows of every sheet below the names of its columns."""
    import openpyxl  # type: ignore[import-untyped]

    _check(stream)
    book = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
    sheets = book.worksheets
    for sheet in sheets:
        name = sheet.title if len(sheets) > 1 else None
        for number, record in _sheet(sheet.iter_rows(values_only=True)):
            yield name, number, record


def _sheet(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[int, object]]:
    filled = ((number, _without_empty_end(row)) for number, row in enumerate(rows, 1))
    below = ((number, cells) for number, cells in filled if cells)
    first = list(islice(below, 2))
    if not first:
        return
    if len(first) == 2 and _is_title(*(cells for _, cells in first)):
        number, cells = first.pop(0)
        title = f"the title “{str(cells[-1])[:40]}” above the names of the columns, not a record"
        yield number, DataError(title)
    elif len(first) == 1 and _count(first[0][1]) == 1:
        number, cells = first[0]
        yield number, DataError(f"nothing stands below the only cell, “{str(cells[-1])[:40]}”")
        return
    number, cells = first.pop(0)
    names, problem = column_names(["" if cell is None else str(cell) for cell in cells])
    if problem:
        yield number, DataError(problem, "give every column a name of its own")
        return
    for number, cells in chain(first, below):
        if len(cells) > len(names):
            yield (
                number,
                DataError(
                    f"{len(cells)} cells in a table of {len(names)} columns",
                    "name the columns, or remove what stands beside the table",
                ),
            )
        else:
            yield number, dict(zip_longest(names, map(_plain, cells)))


def _is_title(first: Sequence[Any], second: Sequence[Any]) -> bool:
    """Whether a single cell is a title above a table, rather than the name of its one column.

    That one may stand above the second column, where pandas wrote the numbers of the rows.
    """
    return _count(first) == 1 and _count(second) > 1 and not len(first) == len(second) == 2


def _count(cells: Sequence[Any]) -> int:
    return sum(cell is not None and cell != "" for cell in cells)


def _without_empty_end(row: Sequence[Any]) -> list[Any]:
    cells = list(row)
    while cells and (cells[-1] is None or cells[-1] == ""):
        cells.pop()
    return cells


def _plain(cell: Any) -> object:
    """A cell as JSON could hold it; Excel has no whole numbers, people do."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return cell if cell is None or isinstance(cell, str | int | float) else str(cell)


def _check(stream: BinaryIO) -> None:
    with zipfile.ZipFile(stream) as archive:
        check_members(archive)
    stream.seek(0)


def _check_rights(archive: zipfile.ZipFile, places: Sequence[str]) -> None:
    """Refuse chapters that are encrypted; encrypted fonts do not matter."""
    if "META-INF/encryption.xml" not in archive.namelist():
        return
    rights = ET.fromstring(archive.read("META-INF/encryption.xml"))
    locked = {unquote(node.attrib.get("URI", "")) for node in _nodes(rights, "CipherReference")}
    if locked & set(places):
        raise DataError("the book is protected against copying", "use a copy without protection")


def _nodes(tree: ET.Element, name: str) -> Iterator[ET.Element]:
    return (node for node in tree.iter() if node.tag.rpartition("}")[2] == name)


def _found(tree: ET.Element, name: str) -> ET.Element:
    return next(_nodes(tree, name))
