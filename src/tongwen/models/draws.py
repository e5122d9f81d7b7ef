"""Random numbers of training, each a function of what it is for.

Legend: T tokens of a packed row, M items of the row, C columns (features of a layer).

A number for a column of a token is x = a·b + c modulo 2⁶⁴. The token gives a and c, a mix of
(seed, step, item, position); the column gives b, drawn from the name of its layer. The upper half
of x is uniform, and that of two columns independent (Dietzfelbinger 1996, “Universal hashing and
k-wise independence via integer arithmetic without primes”); different tokens share nothing.

So a dropout mask does not depend on how a step is cut into micro-batches and processes, on what
lies beside an item in its row, or on what was drawn before; computed again, for gradient
checkpointing or after a crash, it is the same. It is also twice as fast as drawing from a generator
(docs/log.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tongwen.models.device import moved
from tongwen.native import Mask

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
_Words = np.ndarray[tuple[int], np.dtype[np.uint64]]


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of one's own for a purpose."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


def columns(purpose: str, count: int) -> Tensor:
    """The multipliers of the columns of a layer, int64 [C]."""
    return torch.randint(1, 2**32, (count,), generator=generator(0, purpose))


@dataclass(frozen=True)
class Row:
    """The items of a packed row, and the step that sees them."""

    seed: int
    step: int
    item_M: Ints
    length_M: Ints

    @cached_property
    def keys(self) -> tuple[Tensor, Tensor]:
        """For each token its factor and its summand, int64 [T, 1]."""
        beginning = _mix(_mix(np.full(len(self.item_M), self.seed, np.uint64)) ^ _words(self.step))
        item_M = _mix(beginning ^ self.item_M.astype(np.uint64))
        first_M = np.cumsum(self.length_M) - self.length_M
        position_T = np.arange(self.length_M.sum()) - np.repeat(first_M, self.length_M)
        factor_T = _mix(np.repeat(item_M, self.length_M) ^ position_T.astype(np.uint64))
        summand_T = _mix(factor_T)
        first, second = (
            torch.from_numpy(words.view(np.int64))[:, None] for words in (factor_T, summand_T)
        )
        return first, second


class Draws:
    """Where the layers of a model take random numbers from; outside of training there are none.

    `begin` says which row comes next. Numbers are drawn only while gradients are recorded, so that
    evaluation and generation in between see the model as it is.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._row: Row | None = None
        self._keys: tuple[Tensor, Tensor] | None = None

    def begin(self, step: int, items: Sequence[int] | Ints, lengths: Sequence[int]) -> None:
        """The next forward and backward pass is over these items, in this order, in this step."""
        item_M, length_M = (np.asarray(numbers, dtype=np.int64) for numbers in (items, lengths))
        self._row = Row(self._seed, step, item_M, length_M)
        self._keys = None

    @property
    def active(self) -> bool:
        """Whether there are numbers to draw."""
        return self._row is not None and torch.is_grad_enabled()

    def mask(self, share: float, columns_C: Tensor) -> Mask | None:
        """Of a share of the numbers of a layer's input; None while nothing is drawn."""
        if share == 0.0 or not self.active:
            return None
        least = round(share * 2**64) - 2**63
        return Mask(*self._keys_on(columns_C.device), columns_C, least, 1.0 / (1.0 - share))

    def dropout(self, x: Tensor, share: float, columns_C: Tensor) -> Tensor:
        """`x` [..., T, C] with a share of its numbers set to zero and the others scaled up."""
        mask = self.mask(share, columns_C)
        if mask is None:
            return x
        keep_TC = self._numbers(columns_C) >= mask.least
        return x * keep_TC.view(x.shape) * mask.scale

    def noise(self, columns_C: Tensor) -> Tensor:
        """Uniform in [-1, 1), fp32 [T, C]."""
        return self._numbers(columns_C).float() * 2.0**-63

    def token_lengths(self) -> Tensor:
        """The length of the item that each token belongs to, [T]."""
        assert self._row is not None, "drawn outside of a row"
        return torch.from_numpy(np.repeat(self._row.length_M, self._row.length_M))

    def _numbers(self, columns_C: Tensor) -> Tensor:
        """Uniform int64 [T, C]; whole numbers, of which every device has the same products."""
        factor_T1, summand_T1 = self._keys_on(columns_C.device)
        return (factor_T1 * columns_C).add_(summand_T1)

    def _keys_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The factors and summands of the tokens, moved once for all layers."""
        assert self._row is not None, "drawn outside of a row"
        if self._keys is None:
            factor_T1, summand_T1 = self._row.keys
            self._keys = moved(factor_T1, device), moved(summand_T1, device)
        return self._keys


def _words(number: int) -> _Words:
    return np.array([number], dtype=np.uint64)


def _mix(word: _Words) -> _Words:
    """The finaliser of SplitMix64 (Steele et al. 2014): every bit depends on every bit."""
    word = word + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
