"""What a file is, by its content; its ending decides only among texts that look alike.

Magic bytes tell the binary forms, a look into the directory the documents that are zip archives.
What is left is text: a web page begins with <html>, JSON with { or [ and a key, a table has rows of
equal length below a line of names. A file that ends in .csv, .json or .html is believed unless its
content says otherwise; .txt and .md are text unless they are certainly JSON or a table.
"""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, cast

from tongwen.errors import DataError
from tongwen.sources.compressed import PACKINGS, Content, seekable, unpacked
from tongwen.sources.dialect import CSV, TSV, Dialect, dialect_of
from tongwen.text import detect_encoding

HEAD: Final = 1 << 16
SAMPLE: Final = 1 << 22
"""Bytes on which an encoding is judged."""
MANY_NULS: Final = 8
"""UTF-8 with a NUL among more bytes than this is damaged text rather than UTF-16."""
DAMAGE: Final = 0.02
"""Share of bytes that may be wrong in a text that is UTF-8 all the same."""
MARKS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

TEXT, ZIP = "text", "zip"
JSON_LINES, JSON_ARRAY, JSON_OBJECTS = "JSON lines", "JSON array", "JSON objects"
PARQUET, ARROW, FEATHER, EXCEL = "Parquet", "Arrow", "Feather", "Excel"
HTML, PDF, WORD, EPUB, POWERPOINT = "HTML", "PDF", "Word", "EPUB", "PowerPoint"
DOCUMENTS: Final = frozenset([EXCEL, HTML, PDF, WORD, EPUB, POWERPOINT])
"""Forms that are parsed in a child process."""

ENDINGS: Final = {
    TEXT: (".txt", ".md", ".markdown"),
    JSON_LINES: (".jsonl", ".json", ".ndjson"),
    JSON_ARRAY: (".json", ".jsonl"),
    JSON_OBJECTS: (".json", ".jsonl"),
    CSV: (".csv",),
    TSV: (".tsv", ".tab"),
    PARQUET: (".parquet",),
    ARROW: (".arrow",),
    FEATHER: (".feather", ".arrow"),
    EXCEL: (".xlsx", ".xlsm"),
    HTML: (".html", ".htm", ".xhtml"),
    PDF: (".pdf",),
    WORD: (".docx", ".docm"),
    EPUB: (".epub",),
    POWERPOINT: (".pptx", ".pptm"),
    ZIP: (".zip",),
}
ROWS: Final = tuple(
    ending for form in (JSON_LINES, CSV, TSV, PARQUET, ARROW, FEATHER) for ending in ENDINGS[form]
)
"""Endings that a web page never has on purpose."""
PACKED: Final = (".gz", ".zst")
SUFFIXES: Final = (*dict.fromkeys(ending for form in ENDINGS.values() for ending in form), *PACKED)
"""Endings that are read; the others where their content says what they are."""

MAGIC: Final = {b"PAR1": PARQUET, b"ARROW1\0\0": FEATHER, b"PK\3\4": ZIP, b"PK\5\6": ZIP}
PDF_MAGIC: Final = b"%PDF-"
LFS: Final = b"version https://git-lfs.github.com/spec/"
OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
REFUSED: Final = {
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF8": "a picture",
    b"II*\0": "a picture",
    b"MM\0*": "a picture",
    b"ID3": "a sound",
    b"RIFF": "a sound, a film or a picture",
    b"\x1aE\xdf\xa3": "a film",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ\0": "packed with xz",
    b"7z\xbc\xaf\x27\x1c": "packed with 7-Zip",
    b"Rar!": "packed with RAR",
    b"FEA1": "an old Feather file",
    b"SQLite format 3": "an SQLite database",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "model weights",
    b"\x7fELF": "a program",
    b"{\\rtf": "an RTF document",
}
WORD_MAGIC: Final = re.compile(rb"[\w! ]+")
BINARY: Final = 512
"""Bytes in which a binary file has a control character."""
UNPACK: Final = "unpack it first; .gz, .zst and .zip are read as they are"
PICKLE: Final = re.compile(rb"\x80[\2-\5].{0,64}?[\x95cKX\x8c}\](]", re.DOTALL)
CONTROL: Final = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
HTML_HEAD: Final = re.compile(
    r"(?is)\s*(<\?xml[^>]*>\s*)?(?><!--.*?-->\s*)*+<(!doctype\s+html|html|head|body)\b"
)
KEY: Final = r'\{\s*("(?:[^"\\]|\\.)*"\s*:|\}\s*$)'
STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
JSON_HEAD: Final = re.compile(rf"\s*(\[\s*)?{KEY}", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Kind:
    """What a content is and how it is to be read."""

    form: str
    encoding: str | None = None
    dialect: Dialect | None = None
    packing: str | None = None


def recognise(content: Content) -> tuple[Content, Kind]:
    """The content, unpacked, and its kind; a DataError says why it cannot be read."""
    head = read_head(content, HEAD)
    plain = unpacked(content, head)
    packing = None if plain is content else "gzip" if head.startswith(b"\x1f") else "zstd"
    if packing:
        head = read_head(plain, HEAD)
        if unpacked(plain, head) is not plain:
            raise DataError("packed twice", "unpack it once")
    ending = ending_of(content, packed=packing is not None)
    return plain, _kind(plain, head, ending, packing)


def is_data(content: Content) -> bool:
    """Whether a file that nobody named, in a folder or an archive, is one to be read.

    It is where its ending or its content says so. What is only text counts by its ending, since a
    folder of data also holds licences, programs and settings.
    """
    ending = ending_of(content)
    if ending in SUFFIXES and ending not in PACKED:
        return True
    inner = ending_of(content, packed=True)
    believed = ending in PACKED and inner in ("", *SUFFIXES)
    try:
        return recognise(content)[1].form != TEXT or believed
    except DataError:
        return believed


def read_head(content: Content, size: int) -> bytes:
    """The first bytes of a content; of one that breaks off early, what there is."""
    head = b""
    with content.open() as opened:
        # Whole pieces would be lost with the one that cannot be read.
        stream = cast(io.BufferedReader, opened)
        try:
            while len(head) < size and (piece := stream.read1(size - len(head))):
                head += piece
        except DataError:
            if not head:
                raise
    return head


def ending_of(content: Content, packed: bool = False) -> str:
    """The ending of a name in small letters; that of `a.json.gz` is `.json`."""
    name = PurePath(content.name.name.lower())
    return PurePath(name.stem).suffix if packed and name.suffix in PACKED else name.suffix


def surprise(kind: Kind, ending: str) -> str | None:
    """What to tell where an ending says something else than the content."""
    known = ENDINGS.get(kind.form, ())
    if ending in known or ending not in SUFFIXES:
        return None
    if kind.form == TEXT and kind.encoding is None:
        return None
    return f"ends in {ending}, but holds {kind.form}"


def _kind(content: Content, head: bytes, ending: str, packing: str | None) -> Kind:
    form = next((form for magic, form in MAGIC.items() if _begins(head, magic)), None)
    if form == ZIP:
        return Kind(_inside(content), packing=packing)
    if form is None and ending == ".arrow" and head.startswith(b"\xff\xff\xff\xff"):
        form = ARROW
    if form is None and head.lstrip().startswith(PDF_MAGIC):
        form = PDF
    if form is None and ending in ENDINGS[PDF] and PDF_MAGIC in head[:1024]:
        form = PDF
    if form is not None:
        return Kind(form, packing=packing)
    _refuse(head)
    return _text_kind(content, head, ending, packing)


def _inside(content: Content) -> str:
    """Which of the documents that are zip archives this is, or else an archive."""
    try:
        with seekable(content) as stream, zipfile.ZipFile(stream) as archive:
            names = set(archive.namelist())
            mimetype = _mimetype(archive) if "mimetype" in names else b""
    except (DataError, MemoryError):
        raise
    except Exception:  # damaged directories fail in every way there is
        named = (form for form in DOCUMENTS if ending_of(content) in ENDINGS[form])
        return next(named, ZIP)
    if mimetype.startswith(b"application/vnd.oasis."):
        raise DataError("an OpenDocument file", "save it as .docx, .xlsx or .pptx")
    if mimetype.startswith(b"application/epub") or "META-INF/container.xml" in names:
        return EPUB
    if "[Content_Types].xml" in names:
        for folder, form in (("word/", WORD), ("xl/", EXCEL), ("ppt/", POWERPOINT)):
            if any(name.startswith(folder) for name in names):
                return form
    return ZIP


def _mimetype(archive: zipfile.ZipFile) -> bytes:
    """The beginning of the file that names a document's type; the rest could be a bomb."""
    info = archive.getinfo("mimetype")
    if info.compress_type not in PACKINGS:
        return b""
    with archive.open(info) as file:
        return file.read(100)


def _begins(head: bytes, magic: bytes) -> bool:
    """Whether a head has a magic; one that is a word could also begin a text."""
    return head.startswith(magic) and (
        not WORD_MAGIC.fullmatch(magic) or CONTROL.search(head[:BINARY]) is not None
    )


def _refuse(head: bytes) -> None:
    if head.startswith(OLE):
        if "EncryptedPackage".encode("utf-16-le") in head:
            raise DataError("protected by a password", "save it without the password")
        raise DataError(
            "an Office document of the time before 2007", "save it as .docx, .xlsx or .pptx"
        )
    if head.startswith(LFS):
        raise DataError(
            "the pointer that Git LFS leaves in the place of a file", "get it with `git lfs pull`"
        )
    name = next((name for magic, name in REFUSED.items() if _begins(head, magic)), None)
    if name is None and _begins(head[257:], b"ustar"):
        name = "packed with tar"
    if name is None and head.startswith(b"\0") and head[4:8] == b"ftyp":
        name = "a film"
    if name is None and PICKLE.match(head):
        name = "a Python pickle, which may hold a program"
    if name is not None:
        packed = name.startswith("packed")
        raise DataError(f"{name}, not data that are read", UNPACK if packed else None)
    marked = _marked(head)
    controls = len(CONTROL.findall(head))
    if not marked and controls * 10 > len(head) and _certain(head) is None:
        raise DataError("binary data, not text", "is this a data file at all?")


def _text_kind(content: Content, head: bytes, ending: str, packing: str | None) -> Kind:
    marked = _marked(head)
    text = head.decode(marked or "utf-8", errors="ignore")
    if HTML_HEAD.match(text) and ending in ROWS:
        raise DataError(
            f"an HTML page with the ending {ending} of data",
            "a download that failed leaves such a page: look into it, and download the data again",
        )
    if HTML_HEAD.match(text) or ending in ENDINGS[HTML]:
        return Kind(HTML, marked, packing=packing)
    if JSON_HEAD.match(text) or (ending in ENDINGS[JSON_LINES] and _may_be_json(text)):
        return Kind(_json_form(text), marked or "utf-8", packing=packing)
    encoding = marked or encoding_of(content)
    if encoding is None:
        form = CSV if ending in ENDINGS[CSV] else TSV if ending in ENDINGS[TSV] else TEXT
        return Kind(form, None, packing=packing)
    # A head that is cut inside a character or a line says nothing about its last line.
    text = head.decode(encoding, errors="ignore").removeprefix("\ufeff")
    whole = len(head) < HEAD
    if dialect := dialect_of(text, whole, ending):
        return Kind(dialect.form, encoding, dialect, packing)
    if ending in ENDINGS[JSON_LINES]:
        return Kind(_json_form(text), "utf-8", packing=packing)
    return Kind(TEXT, encoding, packing=packing)


def _marked(head: bytes) -> str | None:
    """The encoding that a byte order mark names, or the NULs of JSON in UTF-16 without one."""
    name = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if name is None and b"\0" in head[:2]:
        # RFC 4627: JSON begins with two characters of ASCII, so the place of the NUL tells.
        unmarked = "utf-16-be" if head.startswith(b"\0") else "utf-16-le"
        if JSON_HEAD.match(head.decode(unmarked, errors="ignore")):
            return unmarked
    return name


def encoding_of(content: Content) -> str | None:
    """The encoding of a text by its beginning; None where it is not certain."""
    data = read_head(content, SAMPLE)
    if len(data) == SAMPLE:
        data = data[: data.rfind(b"\n") + 1] or data
    if data.count(0) * MANY_NULS < len(data) and _is_utf8(data, cut=len(data) == SAMPLE):
        return "utf-8"
    return _certain(data) or ("utf-8" if _is_damaged_utf8(data) else None)


def _is_damaged_utf8(data: bytes) -> bool:
    """Whether few bytes are not UTF-8, so that their places say more than a doubt about it all."""
    kept = data.decode("utf-8", errors="ignore").encode()
    return len(data) - len(kept) <= DAMAGE * len(data) and data.count(0) <= DAMAGE * len(data)


def _certain(data: bytes) -> str | None:
    try:
        return detect_encoding(data)
    except DataError:
        return None


def _is_utf8(data: bytes, cut: bool) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return cut and error.end == len(data)
    return True


def _may_be_json(text: str) -> bool:
    """Whether a file that ends in .json begins like one; a table with a wrong ending does not."""
    return text.lstrip()[:1] in ("", "{", "[", '"')


def _json_form(head: str) -> str:
    lines = [line.strip() for line in head.split("\n") if line.strip()]
    first, second = [*lines, "", ""][:2]
    if first.startswith("["):
        return JSON_LINES if first.endswith("]") and second.startswith("[") else JSON_ARRAY
    if first.startswith("{") and (second.startswith('"') or (second and _goes_on(first))):
        return JSON_OBJECTS
    return JSON_LINES


def _goes_on(line: str) -> bool:
    """Whether a line ends where a printer of JSON breaks it; one cut off mostly ends in a text."""
    rest = STRING.sub("", line)
    return '"' not in rest and rest.endswith(("{", "[", ",", ":"))
