"""Files and folders that are either whole or not there.

Everything is written under another name in the same place, synced to the disk and renamed: after a
crash or a power cut the old content stands, or the new, never a half. What is removed is renamed
first. What a killed process left behind is removed by the next one; a living process holds a lock
on the folder that it fills, so that two of them never write the same one. Locks are POSIX; on
network drives they may not be seen.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tongwen.errors import DataError, RunError

PARTIAL = ".partial-"
"""Part of the hidden name of whatever is being filled or removed."""


def write_whole(path: Path, text: str) -> None:
    """Replace the file at `path` by `text`, in UTF-8."""
    temporary = path.with_name(f".{path.name}{PARTIAL}file")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def write_hashed(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write a new file; returns the sha256 of what it was given, whatever the disk made of it.

    Not synced: it belongs into a `new_folder`, which is synced as a whole.
    """
    digest = hashlib.sha256()
    size = 0
    with path.open("xb") as file:
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        file.flush()
        if os.fstat(file.fileno()).st_size != size:
            raise OSError(errno.EIO, "the disk did not take all that was written", str(path))
    return digest.hexdigest()


def is_free(out: Path) -> bool:
    """Whether a folder can be made at `out`: nothing is there, or an empty folder."""
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def refuse_existing(out: Path) -> None:
    """Raise a DataError where making a folder at `out` would write over something."""
    if not is_free(out):
        raise DataError(f"{out} exists already", "choose another --out, or remove it first")


def spelled(path: str | Path) -> str:
    """A path as text that can be written; bytes of a name that are not UTF-8 become `\\xff`."""
    posix = Path(path).as_posix()
    return os.fsencode(posix).decode("utf-8", "backslashreplace")


def sha256_file(path: Path) -> str:
    """sha256 of the content of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_locks: set[int] = set()


def _let_go() -> None:
    """Close the locks that a forked process inherits: they are its parent's, and end with it."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `out` if all goes well and vanishes if not."""
    make_folder(out.parent)
    prefix = f".{out.name}{PARTIAL}"
    _remove_leftovers(out, prefix)
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
    lock = _lock(partial)
    assert lock is not None, f"{partial} was locked by someone else at birth"
    _locks.add(lock)
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        _sync(partial)
        partial.replace(out)
        _sync_folder(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _locks.discard(lock)
        os.close(lock)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that a power cut does not take away again."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder such that no part of it is ever seen under its name."""
    doomed = folder.with_name(f".{folder.name}{PARTIAL}removed")
    if doomed.exists():
        shutil.rmtree(doomed)
    folder.replace(doomed)
    _sync_folder(folder.parent)
    shutil.rmtree(doomed)


def _remove_leftovers(out: Path, prefix: str) -> None:
    for leftover in sorted(out.parent.glob(f"{prefix}*")):
        lock = _lock(leftover)
        if lock is None:
            raise RunError(
                f"another process is writing {out} at this moment",
                "wait for it, or choose another --out",
            )
        shutil.rmtree(leftover)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """An exclusive lock on a folder, held until it is closed; None if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
