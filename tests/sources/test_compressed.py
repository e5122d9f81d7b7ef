"""Packed sources: the rows of what they hold, and one reject for what is wrong with them."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
import zstandard

from tongwen.errors import DataError
from tongwen.sources import Reject, Row, compressed, expand, iter_rows, open_source

RECORDS = [{"text": f"第 {number} 行，随便写一点东西"} for number in range(2000)]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS).encode()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read(path: Path) -> tuple[list[object], list[Reject]]:
    rows = list(iter_rows([path]))
    records = [row.record for row in rows if isinstance(row, Row)]
    return records, [row for row in rows if isinstance(row, Reject)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.gz", "a.bin"])
def test_a_packed_file_is_read_as_what_it_holds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("zst"):
        half = len(LINES) // 2
        compress = zstandard.ZstdCompressor().compress
        path.write_bytes(compress(LINES[:half]) + compress(LINES[half:]))
    else:
        half = LINES.index(b"\n", len(LINES) // 2) + 1
        path.write_bytes(gzip.compress(LINES[:half]) + gzip.compress(LINES[half:]))
    source = open_source(path)
    assert source.form == f"JSON lines, {'zstd' if name.endswith('zst') else 'gzip'}"
    assert read(path) == (RECORDS, [])


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_packed_file_that_is_cut_off_gives_the_rows_before(tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith("gz") else zstandard.ZstdCompressor().compress
    packed = pack(LINES)
    path = tmp_path / name
    path.write_bytes(packed[: len(packed) * 3 // 4])
    records, [reject] = read(path)
    assert reject.reason == "the packed data are cut off"
    assert reject.line == len(records) + 1
    assert records == RECORDS[: len(records)]
    if name.endswith("gz"):
        assert len(records) > 500


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_damaged_file_is_one_reject(tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith("gz") else zstandard.ZstdCompressor().compress
    packed = bytearray(pack(LINES))
    packed[len(packed) // 2 : len(packed) // 2 + 50] = bytes(50)
    (tmp_path / name).write_bytes(packed)
    _, rejects = read(tmp_path / name)
    assert rejects
    assert rejects[-1].reason.startswith("the packed data are")


@pytest.mark.parametrize("kind", ["gzip", "zstd", "zip"])
def test_a_bomb_is_one_reject(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "RATIO_FROM", 1_000_000)
    bomb = b'{"text": "good"}\n' + b" " * 20_000_000
    path = tmp_path / "a.jsonl"
    if kind == "zip":
        zipped(path, {"in.jsonl": bomb})
    else:
        pack = gzip.compress if kind == "gzip" else zstandard.ZstdCompressor().compress
        path.write_bytes(pack(bomb))
    records, [reject] = read(path)
    assert len(records) <= 1
    assert reject.reason.endswith("a decompression bomb")


def test_the_members_of_a_zip(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "a.zip",
        {
            "z.jsonl": b'{"text": "z"}\n',
            "sub/b.csv": "text,id\n一,1\n二,2\n".encode(),
            "c.txt.gz": gzip.compress("三".encode()),
            "picture.png": b"\x89PNG",
            "__MACOSX/._z.jsonl": b"\0",
            "LICENSE": b"words",
            "inner.zip": zipped(tmp_path / "inner.zip", {"a.txt": b"x"}).read_bytes(),
        },
    )
    source = open_source(path)
    assert source.form == "zip of CSV, JSON lines, text, gzip"
    assert source.note == "left out as no data: LICENSE, picture.png"
    rows = list(source.rows())
    assert [(row.file.relative_to(path).as_posix(), row.line) for row in rows] == [
        ("c.txt.gz", 1),
        ("inner.zip", 1),
        ("sub/b.csv", 2),
        ("sub/b.csv", 3),
        ("z.jsonl", 1),
    ]
    assert [row.reason for row in rows if isinstance(row, Reject)] == [
        "an archive within an archive"
    ]


def test_names_in_a_zip_from_a_chinese_computer(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"name.txt": "一".encode()})
    path.write_bytes(path.read_bytes().replace(b"name", "中文".encode("gbk")))
    [row] = iter_rows([path])
    assert row.file.name == "中文.txt"


def test_a_locked_zip_is_one_reject_beside_its_open_members(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.txt": b"open", "b.txt": b"locked", "c.txt": b"locked"})
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        locals_ = [info.header_offset for info in archive.infolist()][1:]
    at = data.index(b"PK\1\2") + 1
    for offset in locals_:
        at = data.index(b"PK\1\2", at + 1)
        data[offset + 6] |= 1
        data[at + 8] |= 1
    path.write_bytes(data)
    records, [reject] = read(path)
    assert records == [{"text": "open"}]
    assert reject.reason == "protected by a password: b.txt, c.txt"


def test_a_damaged_member_costs_that_member(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jsonl": LINES, "b.txt": b"whole"})
    data = bytearray(path.read_bytes())
    data[2000:2040] = bytes(40)
    path.write_bytes(data)
    records, rejects = read(path)
    assert records[-1] == {"text": "whole"}
    assert rejects[-1].file == path / "a.jsonl"
    assert rejects[-1].reason == "the packed data are damaged"


def test_a_zip_that_is_cut_off_is_one_reject(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jsonl": LINES})
    path.write_bytes(path.read_bytes()[:-100])
    records, [reject] = read(path)
    assert records == []
    assert reject.reason == "the archive is damaged or cut off"


def test_a_zstd_stream_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    out = io.BytesIO()
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    with compressor.stream_writer(out, closefd=False) as writer:
        writer.write(LINES)
    (tmp_path / "a.jsonl.zst").write_bytes(out.getvalue())
    _, [reject] = read(tmp_path / "a.jsonl.zst")
    assert reject.reason == "the packed data ask for more than 128 MB of memory"


def test_packed_files_of_a_folder_count_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    (tmp_path / "server.log.gz").write_bytes(gzip.compress(b"GET / 200\n"))
    (tmp_path / "corpus.gz").write_bytes(gzip.compress(b"Some text.\n"))
    found = expand([tmp_path])
    assert [path.name for path in found.files] == ["a.jsonl.gz", "corpus.gz"]
    assert [path.name for path in found.ignored] == ["server.log.gz"]


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        open_source(tmp_path / "nothing.gz")


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_member_that_could_swell_without_limit_is_refused(tmp_path: Path, packing: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("mimetype", b"application/epub")
        archive.writestr("a.txt", b"one")
    _, [reject] = read(path)
    assert reject.file == path / "a.txt"
    assert reject.reason == "packed in a way that is not read"


def test_only_the_beginning_of_a_type_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = []
    whole = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, size: int | None = -1) -> bytes:
        data = whole(self, size)
        read_bytes.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    path = zipped(tmp_path / "a.zip", {"mimetype": bytes(10_000_000), "a.txt": b"one"})
    assert open_source(path).form == "zip of text"
    assert max(read_bytes) <= 100


def test_any_damage_to_a_zip_is_a_reject(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"mimetype": b"some type " * 20, "é.jsonl": LINES[:3000]})
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + b"\xff" * 6 + whole[at + 6 :])
        assert all(row.file.is_relative_to(path) for row in open_source(path).rows())
    path.write_bytes(whole.replace("é".encode(), b"\xff\xff"))
    _, [reject] = read(path)
    assert reject.reason == "the archive is damaged or cut off"


def test_names_that_lead_out_of_their_archive_stay_in_it(tmp_path: Path) -> None:
    names = ["../up.txt", "/root.txt", "a/../b.txt", "./c.txt", ".hidden.txt", "d/.git/e.txt"]
    path = zipped(tmp_path / "a.zip", dict.fromkeys(names, b"one"))
    found = [row.file.relative_to(path).as_posix() for row in iter_rows([path])]
    assert sorted(found) == ["a/b.txt", "c.txt", "root.txt", "up.txt"]


def test_a_document_is_packed_like_any_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("[Content_Types].xml", b"<Types/>")
        archive.writestr("word/document.xml", b"<document/>")
    _, [reject] = read(path)
    assert reject.reason == "packed in a way that is not read"
