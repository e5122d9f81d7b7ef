"""HTML to text: headings, lists and code as in Markdown, tables as Markdown tables.

Navigation and advertisements are left out by trafilatura, which finds the article of a page. Of it
we take the choice only, not the tables, whose merged cells it loses: they go in as a word that
stands for them and come back whole. A page without the marks of a web site is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tongwen.errors import DataError
from tongwen.sources.grids import joined_lines, markdown_table
from tongwen.text import decode

LEFT_OUT: Final = frozenset(
    "script style noscript template svg head iframe object canvas button select "
    "input textarea rt rp -comment".split()
)
SITE: Final = (
    "nav, footer, aside, [role=navigation], [role=banner], [class*=sidebar], [id*=sidebar]"
)
NAVIGATION: Final = frozenset(["nav", "footer", "aside"])
HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
BLOCKS: Final = NAVIGATION.union(
    "html body p div section article main header address figure figcaption dl dt dd ul ol menu td "
    "details summary fieldset form center hgroup caption hr table thead tbody tfoot tr th".split()
)
ARTICLE: Final = 0.3
"""Share of a page's text that an article has at least; with less, the choice was a mistake."""
CELLS: Final = 200_000
"""Cells of the largest table."""
DEPTH: Final = 20
"""Tables in tables."""
BLANKS: Final = re.compile(r"[ \t\r\n\f]+")
MARKS_16: Final = (b"\xff\xfe", b"\xfe\xff")
MANY_LINES: Final = re.compile(r"\n{3,}")
MARK: Final = "Tongwen table {} number {} stands here."


@dataclass(frozen=True)
class Page:
    """The text of a page and its title."""

    text: str
    title: str


CHARSET: Final = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w-]+)", re.IGNORECASE)


def decode_html(data: bytes) -> str:
    """The text of a page: by its mark, as UTF-8, by what it says itself, or as it looks."""
    named = CHARSET.search(data[:4096])
    # What calls itself GB2312 has characters of its supersets more often than not.
    name = named[1].decode("ascii").lower() if named else ""
    name = "gb18030" if name in ("gb2312", "gbk") else name
    for encoding in ("utf-8", name):
        try:
            return data.decode(encoding) if not data.startswith(MARKS_16) else data.decode("utf-16")
        except (UnicodeDecodeError, LookupError):
            continue
    return decode(data)


def page_of(html: str) -> Page:
    """The article of a web page, or all of a page that has no more than that."""
    tree = LexborHTMLParser(html)
    title = _title(tree)
    whole = html_text(tree)
    if tree.css_first(SITE) is None:
        return Page(whole, title)
    article = _article(tree)
    return Page(article if len(article) >= ARTICLE * len(whole) else whole, title)


def html_text(tree: LexborHTMLParser, depth: int = 0) -> str:
    """All text of a page in reading order, without navigation."""
    return _text(tree.body, depth) if tree.body is not None else ""


def _title(tree: LexborHTMLParser) -> str:
    node = tree.css_first("title")
    return BLANKS.sub(" ", node.text()).strip() if node is not None else ""


def _article(tree: LexborHTMLParser) -> str:
    import trafilatura

    for node in tree.css(", ".join(NAVIGATION)):
        node.decompose()
    # A page can spell any word but its own hash.
    token = sha256((tree.html or "").encode("utf-8", "surrogatepass")).hexdigest()[:16]
    tables = []
    for node in tree.css("table"):
        if not _within_table(node) and not _is_layout(node):
            tables.append(_text_of_table(node, 0))
            mark = tree.create_node("p")
            mark.insert_child(MARK.format(token, len(tables) - 1))
            node.replace_with(mark)
    found = trafilatura.extract(
        tree.html or "", output_format="html", include_comments=False, favor_recall=True
    )
    text = html_text(LexborHTMLParser(found or ""))
    marked = MARK.replace(".", r"\.").format(token, r"(\d+)")
    return re.sub(marked, lambda match: tables[int(match[1])], text)


@dataclass
class _Writer:
    """Collects inline text into blocks."""

    blocks: list[str] = field(default_factory=list)
    inline: list[str] = field(default_factory=list)
    prefix: str = ""
    """Begins the block that is being written: `# `, `- `."""
    lists: list[int | None] = field(default_factory=list)
    """For each open list the number of its next item, or None without numbers."""
    quotes: int = 0
    pre: int = 0

    def write(self, text: str) -> None:
        self.inline.append(text if self.pre else BLANKS.sub(_blank, text.replace("\x1f", "")))

    def end_block(self) -> None:
        text = "".join(self.inline)
        self.inline = []
        if not self.pre:
            text = "\n".join(BLANKS.sub(" ", line).strip() for line in text.split("\x1f"))
        if text.strip():
            text = self.prefix + text.strip("\n")
            self.prefix = ""
            self.add(text)

    def add(self, block: str) -> None:
        if self.quotes:
            block = "\n".join("> " * self.quotes + line for line in block.split("\n"))
        self.blocks.append(block)

    def begin_item(self) -> None:
        indent = "  " * (len(self.lists) - 1)
        number = self.lists[-1] if self.lists else None
        self.prefix = indent + ("- " if number is None else f"{number}. ")
        if number is not None:
            self.lists[-1] = number + 1

    def text(self) -> str:
        self.end_block()
        parts: list[str] = []
        for block in self.blocks:
            if parts:
                item = re.match(r"\s*(- |\d+\. )", block)
                before = re.match(r"\s*(- |\d+\. )", parts[-1])
                parts.append("\n" if item and before else "\n\n")
            parts.append(block)
        return MANY_LINES.sub("\n\n", "".join(parts))


def _blank(match: re.Match[str]) -> str:
    """One blank for many; none where a line of Chinese was broken."""
    if "\n" in match[0] and match.start() > 0 and match.end() < len(match.string):
        around = match.string[match.start() - 1] + "\n" + match.string[match.end()]
        return joined_lines(around)[1:-1]
    return " "


def _text(root: LexborNode, depth: int) -> str:
    """The text below a node; without recursion, since broken pages nest thousands of elements."""
    writer = _Writer()
    stack: list[tuple[LexborNode, bool]] = [(root, True)]
    while stack:
        node, opens = stack.pop()
        if not opens:
            _close(writer, node)
        elif _open(writer, node, depth, node is root):
            stack.append((node, False))
            children = list(node.iter(include_text=True))
            stack.extend((child, True) for child in reversed(children))
    return writer.text()


def _open(writer: _Writer, node: LexborNode, depth: int, is_root: bool) -> bool:
    """Write what begins with a node; whether its children are wanted."""
    tag = node.tag or ""
    if tag == "-text":
        writer.write(node.text_content or "")
        return False
    if not is_root and (tag in LEFT_OUT or tag in NAVIGATION or "hidden" in node.attributes):
        return False
    if tag == "table" and not is_root and not _is_layout(node):
        writer.end_block()
        writer.add(_text_of_table(node, depth))
        return False
    if tag == "br":
        writer.inline.append("\n" if writer.pre else "\x1f")
    elif tag in HEADINGS:
        writer.end_block()
        writer.prefix = HEADINGS[tag]
    elif tag in ("ul", "ol", "menu"):
        writer.end_block()
        writer.lists.append(1 if tag == "ol" else None)
    elif tag == "li":
        writer.end_block()
        writer.begin_item()
    elif tag == "blockquote":
        writer.end_block()
        writer.quotes += 1
    elif tag == "pre":
        writer.end_block()
        writer.pre += 1
    elif tag in BLOCKS:
        writer.end_block()
    return True


def _close(writer: _Writer, node: LexborNode) -> None:
    tag = node.tag or ""
    if tag == "pre":
        code = "".join(writer.inline).strip("\n")
        writer.inline, writer.prefix = [], ""
        writer.pre -= 1
        if code.strip():
            writer.add(f"```\n{code}\n```")
    elif tag in BLOCKS or tag in HEADINGS or tag in ("li", "blockquote"):
        writer.end_block()
        writer.prefix = ""
        if tag in ("ul", "ol", "menu"):
            writer.lists.pop()
        elif tag == "blockquote":
            writer.quotes -= 1


def _within_table(node: LexborNode) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.tag == "table":
            return True
        parent = parent.parent
    return False


def _is_layout(table: LexborNode) -> bool:
    """Whether a table only arranges a page: said to, or without two columns."""
    if table.attributes.get("role") == "presentation":
        return True
    return max((len(list(_cells(row))) for row in _rows(table)), default=0) < 2


def _rows(table: LexborNode) -> Iterator[LexborNode]:
    for child in table.iter():
        if child.tag == "tr":
            yield child
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from (row for row in child.iter() if row.tag == "tr")


def _cells(row: LexborNode) -> Iterator[LexborNode]:
    return (cell for cell in row.iter() if cell.tag in ("td", "th"))


def _text_of_table(table: LexborNode, depth: int) -> str:
    if depth > DEPTH:
        raise DataError(f"tables nested more than {DEPTH} deep", "flatten the page")
    caption = next((child for child in table.iter() if child.tag == "caption"), None)
    parts = [_inline(caption, depth)] if caption is not None else []
    places, texts = _grid(table, depth)
    if any(text for text in texts):
        parts.append(markdown_table(places, texts))
    return "\n\n".join(part for part in parts if part)


def _grid(table: LexborNode, depth: int) -> tuple[list[list[int | None]], list[str]]:
    """Which text covers each place of a table, in rows of equal length."""
    rows = list(_rows(table))
    taken: dict[tuple[int, int], int] = {}
    texts: list[str] = []
    for y, row in enumerate(rows):
        x = 0
        for cell in _cells(row):
            while (y, x) in taken:
                x += 1
            width, height = _span(cell, "colspan"), _span(cell, "rowspan", len(rows) - y)
            if len(taken) + width * height > CELLS:
                raise DataError(f"a table of more than {CELLS:,} cells", "split it")
            for right in range(width):
                for down in range(height):
                    taken.setdefault((y + down, x + right), len(texts))
            texts.append(_inline(cell, depth))
            x += width
    width = max((x for _, x in taken), default=-1) + 1
    return [[taken.get((y, x)) for x in range(width)] for y in range(len(rows))], texts


def _span(cell: LexborNode, name: str, most: int = 1000) -> int:
    value = cell.attributes.get(name) or "1"
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 1
    # rowspan = 0 reaches to the end of the table.
    return min(number or most, most)


def _inline(node: LexborNode, depth: int) -> str:
    """What stands in a cell, in one line; tables in it without their frame."""
    text = _text(node, depth + 1)
    text = re.sub(r"^\|( --- \|)+$\n?", "", text, flags=re.MULTILINE)
    return joined_lines(re.sub(r"^\| (.*) \|$", r"\1", text, flags=re.MULTILINE))
