"""Bytes under a name: a file, what is packed in it, or a member of a zip archive.

    .gz .zst        one stream
    .zip            members in the order of their names; each may be a .gz or .zst again

Everything streams. What inflates beyond 200 times its packed size, or beyond 100 GB, is a bomb and
not a corpus. Whatever is wrong with packed bytes is a DataError at the place where it is met, so
that what stands before it is not lost.
"""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, Protocol, cast

from tongwen.errors import DataError

SIZE_LIMIT: Final = 100_000_000_000
"""Inflated bytes of one stream."""
RATIO_LIMIT: Final = 200
"""Inflated bytes per packed byte; text and tables stay far below, bombs begin at 1,000."""
RATIO_FROM: Final = 16_000_000
"""Inflated bytes up to which any ratio is harmless."""
SPOOL_LIMIT: Final = 512_000_000
"""Bytes of what must be unpacked whole, because its format is read from the end."""
WINDOW_LIMIT: Final = 1 << 27
"""Memory in bytes that a zstd stream may ask for; what `zstd` itself allows without --long."""
ZSTD_PIECE: Final = 2048
"""Packed bytes that are inflated at once: at the most 64 MB, whatever they hold."""
BUFFER: Final = 1 << 18

UP: Final = ("", "..")
"""Parts of a member's name that would lead out of its archive: the root, the folder above."""
GZIP: Final = b"\x1f\x8b"
ZSTD: Final = b"\x28\xb5\x2f\xfd"
BROKEN: Final = "the rows before it are kept; download or pack the file again"
PACKINGS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Ways of packing that inflate piece by piece; zipfile lets the others swell without limit."""


class Content(Protocol):
    """Bytes that can be opened again and again."""

    @property
    def name(self) -> Path:
        """What people are shown: `a.txt`, `a.zip/inner.jsonl`."""

    @property
    def size(self) -> int | None:
        """Bytes, where that is known without reading them."""

    def open(self) -> BinaryIO:
        """The bytes from their beginning; a DataError where they cannot be read."""


@dataclass(frozen=True)
class File:
    """A file as it lies on the disk."""

    name: Path

    @property
    def size(self) -> int:
        return self.name.stat().st_size

    def open(self) -> BinaryIO:
        try:
            return self.name.open("rb")
        except OSError as error:
            raise DataError(f"cannot read {self.name}: {error.strerror}") from error


@dataclass(frozen=True)
class Unpacked:
    """What a .gz or .zst holds."""

    packed: Content
    packing: str

    @property
    def name(self) -> Path:
        return self.packed.name

    @property
    def size(self) -> None:
        return None

    def open(self) -> BinaryIO:
        packed = _Counted(self.packed.open())
        source = io.BufferedReader(packed, BUFFER)
        inflate = _Zstd(source) if self.packing == "zstd" else gzip.GzipFile(fileobj=source)
        return io.BufferedReader(_Inflated(inflate, lambda: packed.count, source), BUFFER)


@dataclass(frozen=True)
class Member:
    """A member of an open archive."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    @cached_property
    def name(self) -> Path:
        assert self.archive.filename is not None, "archives are opened by their path"
        parts = PurePosixPath(member_name(self.info)).parts
        return Path(self.archive.filename, *(part for part in parts if part.strip("/") not in UP))

    @property
    def size(self) -> int:
        return self.info.file_size

    @property
    def locked(self) -> bool:
        """Whether it takes a password to read it."""
        return bool(self.info.flag_bits & 1)

    def open(self) -> BinaryIO:
        try:
            if self.info.compress_type not in PACKINGS:
                raise NotImplementedError
            inflate = self.archive.open(self.info)
        except MemoryError:
            raise
        except Exception as error:  # damaged directories fail in every way there is
            raise _broken(error) from error
        packed = self.info.compress_size
        return io.BufferedReader(
            _Inflated(cast(zipfile.ZipExtFile, inflate), lambda: packed, inflate), BUFFER
        )


def unpacked(content: Content, head: bytes) -> Content:
    """The content itself, or, where its first bytes say that it is packed, what it holds."""
    packing = "gzip" if head.startswith(GZIP) else "zstd" if head.startswith(ZSTD) else None
    return Unpacked(content, packing) if packing else content


def open_archive(path: Path) -> zipfile.ZipFile:
    """A zip archive; a DataError where its directory cannot be read."""
    try:
        return zipfile.ZipFile(path)
    except MemoryError:
        raise
    except Exception as error:  # damaged directories fail in every way there is
        raise DataError("the archive is damaged or cut off", "download or pack it again") from error


def members(archive: zipfile.ZipFile) -> Iterator[Member]:
    """The files of an archive in the order of their names, hidden ones left out."""
    named = [(member_name(info), info) for info in archive.infolist() if not info.is_dir()]
    for name, info in sorted(named, key=lambda pair: pair[0]):
        if not any(_is_hidden(part) for part in PurePosixPath(name).parts):
            yield Member(archive, info)


def _is_hidden(part: str) -> bool:
    return (part.startswith(".") and part not in UP) or part == "__MACOSX"


def member_name(info: zipfile.ZipInfo) -> str:
    """The name of a member; without the mark of UTF-8 it may be UTF-8 or Chinese all the same."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.filename


def seekable(content: Content) -> BinaryIO:
    """The content as a file that can be read from its end; what is packed is inflated first."""
    stream = content.open()
    if isinstance(content, File):
        return stream
    whole = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    with stream:
        while piece := stream.read(BUFFER):
            whole.write(piece)
            if whole.tell() > SPOOL_LIMIT:
                whole.close()
                raise DataError(
                    f"more than {SPOOL_LIMIT // 1_000_000} MB when it is unpacked",
                    "unpack it, and split the document",
                )
    whole.seek(0)
    return whole


def check_members(archive: zipfile.ZipFile) -> None:
    """Refuse a document whose parts inflate beyond all measure; zipfile holds to their sizes."""
    infos = archive.infolist()
    if any(info.flag_bits & 1 for info in infos):
        raise DataError("protected by a password", "save it without the password")
    if any(info.compress_type not in PACKINGS for info in infos):
        raise _broken(NotImplementedError())
    size = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if size > SPOOL_LIMIT or (size > RATIO_FROM and size > RATIO_LIMIT * packed):
        raise bomb(size, packed)


def bomb(size: int, packed: int) -> DataError:
    """What is said of content that inflates too much."""
    return DataError(
        f"{packed:,} packed bytes inflate to {size:,} or more: a decompression bomb",
        "nothing beyond this place is read; if the file is honest, unpack it yourself",
    )


class _Zstd:
    """Reads zstd frames; unlike the library's own reader it sees that a frame is cut off."""

    def __init__(self, source: IO[bytes]) -> None:
        import zstandard

        self._decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT)
        self._frame = self._decompressor.decompressobj()
        self._source = source
        self._inflated = b""
        self._begun = False

    def read1(self, size: int) -> bytes:
        """Some inflated bytes; none at the end."""
        while not self._inflated:
            piece = self._frame.unused_data if self._frame.eof else b""
            piece = piece or self._source.read(ZSTD_PIECE)
            if not piece:
                if self._begun and not self._frame.eof:
                    raise EOFError
                return b""
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
            self._begun = True
            self._inflated = self._frame.decompress(piece)
        piece, self._inflated = self._inflated[:size], self._inflated[size:]
        return piece


class _Counted(io.RawIOBase):
    """Counts the bytes that are read through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Reads(Protocol):
    def read1(self, size: int, /) -> bytes: ...


class _Inflated(io.RawIOBase):
    """Inflated bytes within limits; every trouble with them is a DataError."""

    def __init__(self, stream: _Reads, packed: Callable[[], int], owner: IO[bytes]) -> None:
        self._stream, self._packed, self._owner = stream, packed, owner
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            # Not read(), which goes on until the end or the damage and loses what it had before.
            data = self._stream.read1(len(buffer))
        except (DataError, MemoryError):
            raise
        except Exception as error:  # damaged streams fail in every way there is
            raise _broken(error) from error
        self._size += len(data)
        if self._size > SIZE_LIMIT or (
            self._size > RATIO_FROM and self._size > RATIO_LIMIT * self._packed()
        ):
            raise bomb(self._size, self._packed())
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._owner.close()
        super().close()


def _broken(error: Exception) -> DataError:
    message = str(error)
    if isinstance(error, EOFError):
        return DataError("the packed data are cut off", BROKEN)
    if "encrypted" in message:
        return DataError("encrypted", "unpack the archive with its password first")
    if isinstance(error, NotImplementedError):
        return DataError("packed in a way that is not read", "pack the archive with deflate")
    if "too much memory" in message:
        return DataError(
            f"the packed data ask for more than {WINDOW_LIMIT >> 20} MB of memory",
            "pack them again without --long",
        )
    if isinstance(error, OSError) and error.errno:
        return DataError(f"cannot be read: {os.strerror(error.errno)}")
    return DataError("the packed data are damaged", BROKEN)
