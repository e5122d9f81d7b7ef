"""Tokens on disk: written as a stream, read by memory map.

One split of a prepared folder is three files:

    ids.bin     the tokens of all items, one after another; uint16 for vocabularies up to 65536,
                uint32 above, little endian
    mask.bin    uint8 per token; 1 where the token carries loss
    index.bin   one packed record per item: `end` u8 (where its tokens end, exclusive), `bytes` u4
                (UTF-8 bytes of its text that carries loss), `language` u1 (place in LANGUAGES),
                `kind` u1 (place in KINDS)

An item is a conversation, a document or a piece of a long document, or one answer of a preference:
the chosen one, directly followed by the rejected one. Nothing else is stored, so the width of a
token follows from the sizes of the files, and sizes that disagree betray a file that is cut off or
does not belong. Limit: 4 GiB of text in one item.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from tongwen.errors import DataError

Split = Literal["train", "held_out"]
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

Kind = Literal["text", "conversation", "chosen", "rejected", "good", "bad"]

LANGUAGES: Final = ("zh", "en", "mixed", "other")
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
INDEX: Final = np.dtype([("end", "<u8"), ("bytes", "<u4"), ("language", "u1"), ("kind", "u1")])
WITHOUT_KINDS: Final = np.dtype([("end", "<u8"), ("bytes", "<u4"), ("language", "u1")])
"""The index before it told kinds apart."""
MASK: Final = np.dtype("u1")
RECORD: Final = struct.Struct("<QIBB")
"""INDEX, for one record."""
WAITING: Final = 1 << 16
"""Tokens that are written at once."""
COPIED: Final = 1 << 20
"""Tokens or records that are copied at once."""
NARROW: Final = np.dtype("<u2")
WIDE: Final = np.dtype("<u4")
REBUILD: Final = "prepare the data again with `tongwen data prepare`"


class TokenWriter(ExitStack):
    """Appends items to one split; memory does not grow with the number of items."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._dtype = NARROW if vocab_size <= 1 << 16 else WIDE
        self._vocab_size = vocab_size
        self._end = 0
        self._waiting_ids: list[Sequence[int] | npt.NDArray[np.int64]] = []
        self._waiting_masks: list[Sequence[bool] | npt.NDArray[np.bool_]] = []
        self._waiting_records: list[bytes] = []
        self._written = 0
        self._ids = self.enter_context((folder / "ids.bin").open("wb"))
        self._mask = self.enter_context((folder / "mask.bin").open("wb"))
        self._index = self.enter_context((folder / "index.bin").open("wb"))
        self.push(self._finish)

    def add(
        self,
        ids: Sequence[int] | npt.NDArray[np.int64],
        mask: Sequence[bool] | npt.NDArray[np.bool_],
        text_bytes: int,
        language: str,
        kind: Kind,
    ) -> None:
        """Append one item; `text_bytes` are the UTF-8 bytes of its text that carries loss."""
        assert 0 < len(ids) == len(mask), "an item needs tokens, each with its mask"
        self._end += len(ids)
        self._waiting_ids.append(ids)
        self._waiting_masks.append(mask)
        record = (self._end, text_bytes, LANGUAGES.index(language), KINDS.index(kind))
        self._waiting_records.append(RECORD.pack(*record))
        if self._end - self._written >= WAITING:
            self._flush()

    def append(self, store: TokenStore) -> None:
        """Append all items of a store that was made with the same tokenizer."""
        self._flush()
        for start in range(0, store.tokens, COPIED):
            ids, mask = store.stretch(start, start + COPIED)
            assert ids.dtype == self._dtype, "one tokenizer has one width"
            self._ids.write(ids.tobytes())
            self._mask.write(mask.tobytes())
        for start in range(0, len(store), COPIED):
            index = store.records(start, start + COPIED)
            index["end"] += self._end
            self._index.write(index.tobytes())
        self._end += store.tokens
        self._written = self._end

    def _finish(self, failed: type[BaseException] | None, *_: object) -> None:
        """Hand the rest to the system; the folder as a whole is synced by who wrote it."""
        if failed is None:
            self._flush()

    def _flush(self) -> None:
        """Write what waits."""
        if not self._waiting_records:
            return
        ids = np.concatenate(self._waiting_ids)
        assert ids.min() >= 0, "a token below 0"
        assert ids.max() < self._vocab_size, "a token outside of the vocabulary"
        self._ids.write(ids.astype(self._dtype).tobytes())
        self._mask.write(np.concatenate(self._waiting_masks).astype(np.bool_).tobytes())
        self._index.write(b"".join(self._waiting_records))
        for waiting in (self._waiting_ids, self._waiting_masks, self._waiting_records):
            waiting.clear()
        self._written = self._end


class TokenStore:
    """The items of one split, read from a memory map."""

    def __init__(self, ids: Tokens, mask: npt.NDArray[np.bool_], index: npt.NDArray[Any]) -> None:
        self._ids = ids
        self._mask = mask
        self._index = index
        self._ends: npt.NDArray[np.int64] = index["end"].astype(np.int64)
        self.lengths: npt.NDArray[np.int64] = np.diff(self._ends, prepend=0)
        """Tokens of each item."""
        self.bytes: npt.NDArray[np.int64] = index["bytes"].astype(np.int64)
        """UTF-8 bytes of each item's text that carries loss."""
        self.languages: npt.NDArray[np.uint8] = np.ascontiguousarray(index["language"])
        """Language of each item, as its place in LANGUAGES."""
        self.kinds: npt.NDArray[np.uint8] = np.ascontiguousarray(index["kind"])
        """Kind of each item, as its place in KINDS."""

    @classmethod
    def open(cls, folder: Path, split: Split) -> TokenStore:
        """Open one split of a prepared folder; a damaged or foreign one raises DataError."""
        place = folder / split
        mask_bytes = _size(place / "mask.bin")
        _check_kinds_are_there(place / "index.bin", mask_bytes)
        index = _map(place / "index.bin", INDEX)
        ids = _map(place / "ids.bin", _token_type(place, mask_bytes))
        mask = _map(place / "mask.bin", MASK)
        ends = index["end"]
        last = int(ends[-1]) if len(ends) else 0
        if last != len(mask):
            raise DataError(
                f"{place} is damaged: index.bin speaks of {last} tokens, mask.bin has {len(mask)}",
                REBUILD,
            )
        if len(ends) and (ends[0] == 0 or np.any(ends[1:] <= ends[:-1])):
            raise DataError(f"{place / 'index.bin'} is damaged: its offsets do not rise", REBUILD)
        if np.any(index["language"] >= len(LANGUAGES)):
            raise DataError(
                f"{place / 'index.bin'} is damaged: it has an unknown language", REBUILD
            )
        if np.any(index["kind"] >= len(KINDS)):
            raise DataError(f"{place / 'index.bin'} is damaged: it has an unknown kind", REBUILD)
        return cls(ids, mask.view(np.bool_), index)

    def __len__(self) -> int:
        return len(self._ends)

    def ids(self, i: int) -> Tokens:
        """Tokens of item `i`, as a view of the file."""
        start, end = self._span(i)
        return self._ids[start:end]

    def mask(self, i: int) -> npt.NDArray[np.bool_]:
        """Which tokens of item `i` carry loss, as a view of the file."""
        start, end = self._span(i)
        return self._mask[start:end]

    @property
    def tokens(self) -> int:
        """Tokens of all items together."""
        return len(self._ids)

    def stretch(self, start: int, end: int) -> tuple[Tokens, npt.NDArray[np.bool_]]:
        """Tokens from one place to another, whatever items they are of, each with its mask."""
        return self._ids[start:end], self._mask[start:end]

    def records(self, start: int, end: int) -> npt.NDArray[Any]:
        """A copy of a part of the index."""
        return self._index[start:end].copy()

    def _span(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"item {i} of {len(self)}")
        end = int(self._ends[i])
        return end - int(self.lengths[i]), end


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise DataError(
            f"{path.parent.parent} is not a prepared folder: it has no "
            f"{path.parent.name}/{path.name}",
            "give the folder that `tongwen data prepare` wrote",
        ) from None


def _check_kinds_are_there(path: Path, tokens: int) -> None:
    if _size(path) and _size(path) % WITHOUT_KINDS.itemsize == 0:
        ends = np.memmap(path, dtype=WITHOUT_KINDS, mode="r")["end"]
        if ends[-1] == tokens and np.all(ends[1:] > ends[:-1]):
            raise DataError(
                f"{path} is of an older version and does not say of what kind its items are",
                REBUILD,
            )


def _token_type(place: Path, tokens: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    size = _size(place / "ids.bin")
    for dtype in (NARROW, WIDE):
        if size == tokens * dtype.itemsize:
            return dtype
    raise DataError(
        f"{place} is damaged: ids.bin has {size} bytes for the {tokens} tokens of mask.bin, "
        f"expected {2 * tokens} or {4 * tokens}",
        REBUILD,
    )


def _map(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    size = _size(path)
    if size % dtype.itemsize:
        raise DataError(
            f"{path} is damaged: {size} bytes are not a whole number of {dtype.itemsize}-byte "
            "records",
            REBUILD,
        )
    if size == 0:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
