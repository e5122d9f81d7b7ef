"""KnowLM's token files, read and written.

    PREFIX.bin    the ids of all samples, one after another; uint16
    PREFIX.idx    the start of every sample, in tokens: N × uint64; then the lengths: N × uint16
    PREFIX.dis    how many of the samples, in order, belong to each category: a list saved by torch

All numbers are little endian. An empty list in PREFIX.dis stands for a single category.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from tongwen.data.shards import COPIED, TokenStore
from tongwen.errors import DataError

TOKEN: Final = np.dtype("<u2")
START: Final = np.dtype("<u8")
LENGTH: Final = np.dtype("<u2")
ENDINGS: Final = (".bin", ".idx", ".dis")
VOCABULARY: Final = 1 << 16
LONGEST: Final = (1 << 16) - 1
"""Limits of the format: tokens of a vocabulary, and of a sample."""
DAMAGED: Final = "copy the files again, or write them again with KnowLM's preprocess.py"


@dataclass(frozen=True)
class Samples:
    """KnowLM's files, checked."""

    ids: npt.NDArray[np.uint16]
    ends: npt.NDArray[np.int64]
    categories: list[int]


def read_samples(prefix: Path) -> Samples:
    """Open KnowLM's files; whatever in them disagrees is a DataError."""
    for ending in ENDINGS:
        if not file_of(prefix, ending).is_file():
            raise DataError(
                f"{file_of(prefix, ending)} does not exist",
                f"give the path of the files {' '.join(ENDINGS)} without these endings",
            )
    index, tokens = file_of(prefix, ".idx"), file_of(prefix, ".bin")
    record = START.itemsize + LENGTH.itemsize
    size, width = index.stat().st_size, TOKEN.itemsize
    if size == 0 or size % record:
        raise DataError(
            f"{index} is damaged: {size} bytes are not a whole number of samples", DAMAGED
        )
    if tokens.stat().st_size % width:
        raise DataError(f"{tokens} is damaged: it ends inside a token", DAMAGED)
    count = size // record
    starts = np.fromfile(index, dtype=START, count=count)
    lengths = np.fromfile(index, dtype=LENGTH, offset=count * START.itemsize).astype(np.int64)
    ends = np.cumsum(lengths)
    if (empty := np.flatnonzero(lengths == 0)).size:
        raise DataError(f"{index} is damaged: sample {empty[0] + 1} is empty", DAMAGED)
    if (apart := np.flatnonzero(starts != (ends - lengths).astype(START))).size:
        number = int(apart[0])
        raise DataError(
            f"{index} is damaged: sample {number + 1} starts at token {starts[number]}, the "
            f"samples before it end at {ends[number] - lengths[number]}",
            DAMAGED,
        )
    there = tokens.stat().st_size // width
    if ends[-1] != there:
        raise DataError(f"{index} speaks of {ends[-1]} tokens, {tokens} has {there}", DAMAGED)
    ids = np.memmap(tokens, dtype=TOKEN, mode="r")
    return Samples(ids, ends, _categories(file_of(prefix, ".dis"), count))


def _categories(path: Path, samples: int) -> list[int]:
    import torch

    try:
        found: Any = torch.load(path, weights_only=True)
    except Exception as error:  # the library raises many kinds for what it did not write
        raise DataError(f"{path} is not a list saved by torch", DAMAGED) from error
    if not isinstance(found, list) or not all(type(n) is int and n >= 0 for n in found):
        raise DataError(f"{path} is not a list of how many samples each category has", DAMAGED)
    if found and sum(found) != samples:
        raise DataError(
            f"{path} counts {' + '.join(map(str, found))} = {sum(found)} samples, the index has "
            f"{samples}",
            DAMAGED,
        )
    if empty := [number for number, count in enumerate(found, 1) if count == 0]:
        raise DataError(f"{path}: category {empty[0]} has no samples", "write it without them")
    return found or [samples]


def write_samples(prefix: Path, stores: Sequence[TokenStore]) -> int:
    """Write the items of each store as one category; the tokens of them that carry loss.

    Each file appears when it is complete, PREFIX.dis last; after a failure none is there.
    """
    for ending in ENDINGS:
        if file_of(prefix, ending).exists():
            raise DataError(f"{file_of(prefix, ending)} exists already", "choose another --out")
    try:
        return _write(prefix, stores)
    except BaseException:
        for ending in ENDINGS:
            file_of(prefix, ending).unlink(missing_ok=True)
        raise


def _write(prefix: Path, stores: Sequence[TokenStore]) -> int:
    import torch

    learned = 0
    with _whole(file_of(prefix, ".bin")) as file:
        for store in stores:
            for start in range(0, store.tokens, COPIED):
                ids, mask = store.stretch(start, start + COPIED)
                file.write(ids.astype(TOKEN).tobytes())
                learned += int(mask.sum())
    lengths = np.concatenate([store.lengths for store in stores])
    with _whole(file_of(prefix, ".idx")) as file:
        file.write((np.cumsum(lengths) - lengths).astype(START).tobytes())
        file.write(lengths.astype(LENGTH).tobytes())
    with _whole(file_of(prefix, ".dis")) as file:
        torch.save([len(store) for store in stores], file)
    return learned


def file_of(prefix: Path, ending: str) -> Path:
    """The path of one of the files."""
    return prefix.with_name(prefix.name + ending)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that stands under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
