"""Files are old or new, never half."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tongwen.errors import DataError
from tongwen.files import new_folder, refuse_existing, sha256_file, write_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "文件.txt"
    write_whole(path, "旧\n")
    write_whole(path, "新\r\n")
    assert path.read_bytes() == "新\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]
    assert sha256_file(path) == hashlib.sha256("新\r\n".encode()).hexdigest()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"


def test_only_nothing_and_empty_folders_make_room(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new")
    refuse_existing(tmp_path)
    (tmp_path / "file").touch()
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(DataError, match=f"{taken} exists already"):
            refuse_existing(taken)


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".out.partial-abc"
    leftover.mkdir()
    (leftover / "half").write_text("x", encoding="utf-8")
    with new_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("y", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
