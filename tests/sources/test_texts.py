"""Plain text: a document for each file or line; a huge file falls into pieces of bounded size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.sources import Reject, Row, open_source, texts
from tongwen.sources.compressed import File


def documents(path: Path, text_rows: texts.TextRows) -> list[tuple[int, str]]:
    """Line and text, or line and reason, of each row."""
    rows = open_source(path, text_rows).rows()
    return [
        (row.line, row.record["text"] if isinstance(row, Row) else row.reason)  # type: ignore[index]
        for row in rows
    ]


def test_each_line_can_be_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \nbad \xff\nnul \0\nlast")
    assert documents(path, "line") == [
        (1, "one"),
        (3, " two "),
        (4, "byte 0xFF is not utf-8-sig"),
        (5, "the text holds a NUL character"),
        (6, "last"),
    ]


def test_each_line_in_gb18030(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    lines = ["学而时习之，不亦说乎？有朋自远方来，不亦乐乎？", "人不知而不愠，不亦君子乎？"]
    path.write_bytes("\r\n".join(lines).encode("gb18030"))
    assert documents(path, "line") == [(1, lines[0]), (2, lines[1])]


def test_a_huge_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "PIECE", 10)
    monkeypatch.setattr("tongwen.sources.texts.WHOLE", 50)
    monkeypatch.setattr("tongwen.sources.files.WHOLE", 50)
    path = tmp_path / "a.txt"
    text = "第一段有十个字吧，对。\n\n第二段\n第三段很长很长很长很长很长\n\n" + "长句。" * 20
    path.write_text(text, encoding="utf-8")
    source = open_source(path)
    assert source.note is not None
    assert "read in pieces of whole paragraphs" in source.note
    assert documents(path, "auto") == [
        (1, "第一段有十个字吧，对。\n\n"),
        (3, "第二段\n第三段很长很长很长很长很长\n\n"),
        (6, "长句。" * 13),
        (6, "长句。" * 7),
    ]
    assert documents(path, "file") == [(1, text)]


@given(
    lines=st.lists(st.text("字a。 ", max_size=60), max_size=30),
    piece=st.integers(1, 40),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_pieces_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], piece: int, end: str
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "a.txt"
    path.write_bytes(end.join(lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "PIECE", piece)
        patch.setattr(texts, "WHOLE", 0)
        rows = list(texts.text_rows(File(path), "utf-8", "auto"))
    assert not any(isinstance(row, Reject) for row in rows)
    pieces = [row.record["text"] for row in rows if isinstance(row, Row)]  # type: ignore[index]
    assert all(len(text) <= 4 * piece for text in pieces)
    text = "\n".join(lines)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    for row, found in zip(rows, pieces, strict=True):
        assert lines[row.line - 1].find(found.split("\n")[0]) >= 0
