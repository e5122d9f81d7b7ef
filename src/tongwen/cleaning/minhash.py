"""MinHash sketches of texts: short vectors that agree in as many places as the texts in shingles.

The shingles of a text are, for each folded character (see `fold`), the two characters from it on
where it is a Hanzi, kana or Hangul, and the four from it on where it is any other letter or digit:
about a word in either script. Their Jaccard similarity is the share of shingles that two texts have
in common; on real text one edited character in a hundred lowers it by four parts in a hundred in
Chinese and by seven in English.

A sketch of `k` numbers agrees in each with the probability of that similarity. It is filled by fast
similarity sketching (Dahlgaard, Knudsen and Thorup, 2017, arXiv:1704.04370): the shingles are
thrown into k bins, each bin keeps its least, and texts of few shingles throw theirs again until no
bin is empty. The error is that of k independent permutations; the cost does not grow with k.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from tongwen.cleaning.fold import BLOCK, MIX, fold, is_dense, mix
from tongwen.cleaning.scratch import U64, Codes, codes_of

Places = npt.NDArray[np.int64]
Sketches = npt.NDArray[np.uint32]

PERMUTATIONS: Final = 256
BATCH: Final = 1 << 18
"""Characters whose texts are worked on together."""
END: Final = "\ue000\ue000\ue000"
"""Stands behind each text of a batch, so that no shingle reaches into the next one."""
EMPTY: Final = np.uint64(2**64 - 1)
HIGH: Final = 1 if sys.byteorder == "little" else 0
"""Which half of a 64-bit number is the upper one."""
SPARE: Final = 2.0
"""Throws beyond k ln k, in k: in one of eight texts a bin is still empty then, and it goes on."""
TOGETHER: Final = 16
"""Texts of about the same length whose shingles are thrown again together."""


def sketches(texts: Sequence[str], permutations: int = PERMUTATIONS) -> Sketches:
    """One row of `permutations` numbers for each text; all 0 for a text without a letter.

    A pure function of each text: it does not matter which texts are given together.
    """
    rows = [np.empty((0, permutations), dtype=np.uint32)]
    for batch in _batches(texts):
        hashes, ends = shingles([codes_of(text) for text in batch])
        rows.append(_filled(hashes, ends, permutations))
    return np.concatenate(rows)


def shingles(texts: Sequence[Codes]) -> tuple[U64, Places]:
    """The hashes of the shingles of each text in turn, and where those of each text end."""
    end = codes_of(END)
    codes = np.concatenate([part for text in texts for part in (text, end)])
    folded = np.empty(len(codes), dtype=np.uint32)
    for block in _blocks(len(codes)):
        folded[block] = fold(codes[block])
    ends = np.cumsum([len(text) + len(end) for text in texts])
    counts = np.cumsum(folded != 0)[ends - 1]
    kept = folded[(folded != 0) | (codes == end[0])]
    kept = np.concatenate([kept, np.zeros(len(end), dtype=np.uint32)])
    hashes = [_hashed(kept[block.start : block.stop + 3]) for block in _blocks(len(kept) - 3)]
    return np.concatenate(hashes), counts


def similarity(one: U64, other: U64) -> float:
    """Jaccard similarity of two sets of shingles, given as sorted arrays without repetition."""
    if not len(one) or not len(other):
        return 0.0
    both = np.sort(np.concatenate([one, other]))
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for i, text in enumerate(texts):
        size += len(text)
        if size >= BATCH:
            yield texts[start : i + 1]
            start, size = i + 1, 0
    if start < len(texts):
        yield texts[start:]


def _blocks(length: int) -> Iterator[slice]:
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length))


def _hashed(kept: Codes) -> U64:
    """The shingles that begin at each letter but the last three; marks of ends begin none."""
    wide = kept.astype(np.uint64)
    pairs = wide[:-1] | (wide[1:] << np.uint64(21))
    first = kept[:-3]
    rest = pairs[2:] * np.uint64(MIX[0]) + np.uint64(1)
    rest[is_dense(first)] = 0
    rest += pairs[:-2]
    return mix(rest[first != 0])


def _filled(hashes: U64, ends: Places, k: int) -> Sketches:
    """The sketches of texts whose shingles end at `ends`."""
    counts = np.diff(ends, prepend=0)
    bins = np.full(len(ends) * k, EMPTY, dtype=np.uint64)
    offsets = np.repeat(np.arange(len(ends)) * k, counts)
    for block in _blocks(len(hashes)):
        _throw(bins, hashes[block].copy(), offsets[block], np.zeros(1, np.uint32), k)
    rows = bins.reshape(-1, k)
    thrown = np.ones(len(ends), dtype=np.int64)
    while len(open_ := np.flatnonzero((rows == EMPTY).any(axis=1) & (counts > 0))):
        for some in _alike(open_, counts):
            # Shorter texts have some shingles twice, and some are thrown again in the same way:
            # the least of a bin stays the same.
            taken = np.arange(counts[some].max()) % counts[some, None]
            own = hashes[(ends - counts)[some, None] + taken]
            first = int(thrown[some].min())
            end = first + math.ceil(k * (math.log(k) + SPARE) / int(counts[some].min()))
            rows[some] = _thrown_again(rows[some], own, first, end)
            thrown[some] = end
    rows[counts == 0] = 0
    return (rows ^ (rows >> np.uint64(32)) * np.uint64(MIX[1])).astype(np.uint32)


def _alike(texts: Places, counts: Places) -> Iterator[Places]:
    """Groups of texts that have about as many shingles."""
    classes = np.round(np.log2(counts[texts]) * 4).astype(np.int64)
    for one in np.unique(classes):
        group = texts[classes == one]
        yield from (group[i : i + TOGETHER] for i in range(0, len(group), TOGETHER))


def _thrown_again(rows: U64, hashes: U64, first: int, end: int) -> U64:
    """The bins of some texts, after their shingles are thrown for the `first` to `end`-th time."""
    texts, k = rows.shape
    bins = rows.ravel()
    nth = np.arange(first, end, dtype=np.uint32)
    # The hashes are scattered already; an odd factor scatters them anew (multiply-shift).
    factors = mix(nth.astype(np.uint64)) | np.uint64(1)
    offsets = (np.arange(texts) * k)[:, None, None]
    _throw(bins, hashes[:, :, None] * factors, offsets, nth, k)
    return bins.reshape(texts, k)


def _throw(bins: U64, hashes: U64, offsets: Places | None, nth: Codes, k: int) -> None:
    """Throw shingles for the nth time; what is thrown earlier is always less."""
    halves = hashes.view(np.uint32).reshape(*hashes.shape, 2)
    places = ((halves[..., HIGH] >> np.uint32(16)) * np.uint32(k) >> np.uint32(16)).astype(np.intp)
    if offsets is not None:
        places += offsets
    halves[..., HIGH] = nth
    np.minimum.at(bins, places.ravel(), hashes.ravel())
