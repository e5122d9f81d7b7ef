"""Which files sources stand for: files, folders, patterns, URLs, Hugging Face datasets."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tongwen.errors import DataError
from tongwen.sources.compressed import File
from tongwen.sources.recognise import SUFFIXES, is_data, recognise
from tongwen.sources.remote import Fetched, fetch_all, is_remote


@dataclass(frozen=True)
class Expanded:
    """The files that sources stand for, and those beside them that hold no data."""

    files: tuple[Path, ...]
    ignored: tuple[Path, ...]
    origins: dict[Path, str] = field(default_factory=dict)
    """Where files were downloaded from: a URL, or `hf:owner/name@commit/file`."""


def expand(sources: Sequence[str | Path], cache: Path | None = None) -> Expanded:
    """The files behind sources, in their order, none of them twice.

    Folders and patterns are sorted by name and leave hidden files out; what is no data there is
    `ignored`, where it is named itself it is a DataError. A path that exists is never looked for
    elsewhere; URLs and datasets are downloaded once, into `cache` (default ~/.cache/tongwen).
    """
    found = _Found()
    for source in sources:
        path = Path(source)
        if _exists(path) and path.is_dir():
            found.sort_in(_walk(path))
        elif _exists(path):
            _check(path)
            found.files.setdefault(_real(path), path)
        elif is_remote(source):
            found.fetched(fetch_all(source, cache))
        elif glob.has_magic(str(source)):
            found.sort_in(_matches(str(source)))
        else:
            raise DataError(f"{source} does not exist", "check the path for a slip of the pen")
    if not found.files:
        listed = ", ".join(str(source) for source in sources)
        raise DataError(f"no data files in {listed}", f"data files end in {', '.join(SUFFIXES)}")
    return Expanded(tuple(found.files.values()), tuple(found.ignored.values()), found.origins)


@dataclass
class _Found:
    """What was found so far, by its real place, so that nothing comes twice."""

    files: dict[str, Path] = field(default_factory=dict)
    ignored: dict[str, Path] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)

    def sort_in(self, paths: Iterable[Path]) -> None:
        for path in paths:
            kind = self.files if path.is_file() and is_data(File(path)) else self.ignored
            kind.setdefault(_real(path), path)

    def fetched(self, fetched: Fetched) -> None:
        self.origins |= fetched.origins
        self.ignored |= {str(path): path for path in fetched.ignored}
        for path in fetched.origins:
            _check(path)
            self.files.setdefault(_real(path), path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a name can be, as URLs are
        return False


def _real(path: Path) -> str:
    """Where a path leads; unlike Path.resolve it bears links that lead to themselves."""
    return os.path.realpath(path)


def _check(path: Path) -> None:
    """Refuse a file that was named and holds no data; a damaged one is for its reader to say."""
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder")
    if path.suffix.lower() in SUFFIXES:
        return
    try:
        recognise(File(path))
    except DataError as error:
        raise DataError(
            f"{path} is not read: {error.message}",
            error.hint or f"data files end in {', '.join(SUFFIXES)}",
        ) from None


def _matches(pattern: str) -> Iterator[Path]:
    """The files that a pattern means, and those in the folders that it means."""
    # Path.glob has no patterns that are absolute, and sees hidden files.
    places = sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207
    if not places:
        raise DataError(f"{pattern} matches nothing", "** stands for folders of any depth")
    for path in places:
        yield from _walk(path) if path.is_dir() else (path,)


def _walk(folder: Path) -> Iterator[Path]:
    """The files of a folder, each folder's own before those of its folders."""
    seen = {_real(folder)}
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        inner = [name for name in sorted(folders) if not name.startswith(".")]
        folders[:] = []
        for name in inner:
            target = _real(Path(place, name))
            if target not in seen:
                seen.add(target)
                folders.append(name)
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place, name)


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error
