"""What there is to compute: steps, and the micro-batch that takes most.

A prepared folder is counted as training would cut it, from the lengths of its items; anything else
is taken as items of full length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from tongwen.config import ForecastConfig
from tongwen.config.align import COMPARING
from tongwen.data import TokenStore, load_manifest
from tongwen.data.manifest import MANIFEST
from tongwen.models.recipe import Load
from tongwen.train.heaviest import heaviest, laid_out, tokens_looked_at, trained_share
from tongwen.train.mix import Ints
from tongwen.train.plan import Plan

BYTES_PER_TOKEN = 4.0
"""UTF-8 bytes that a token stands for, about, in Chinese and in English."""
MANY = 10**6
"""Micro-batches of different sizes, where items of unknown lengths will make them."""

SPLITS = ("train", "held_out")


class Work(Protocol):
    """The data of a training."""

    @property
    def tokens(self) -> float:
        """Tokens of one epoch; 0 where nothing is known."""

    @property
    def longest(self) -> int:
        """Tokens of the longest group of items."""

    @property
    def mean(self) -> float:
        """Tokens of a group of items, on average."""

    @property
    def trained_share(self) -> float:
        """Share of the tokens that carry loss."""

    @property
    def square_length(self) -> float:
        """Sum of squared lengths over the sum of lengths: keys that a token is scored with."""

    def load(self, batch_tokens: int, micro_batch_tokens: int, _steps: int | None) -> Load:
        """The largest micro-batch of so many steps, or of an epoch."""


@dataclass(frozen=True)
class Counted:
    """Prepared folders."""

    folders: Sequence[Path]
    seed: int = 0
    group: int = 1
    """Items that stay together: 2 for pairs of preferences."""
    compared: bool = False
    """Whether all items are looked at once for a reference."""

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of every group of items to train on."""
        stores = [TokenStore.open(folder, "train") for folder in self.folders]
        lengths = np.concatenate([store.lengths for store in stores])
        return np.add.reduceat(lengths, np.arange(0, len(lengths), self.group))

    @property
    def tokens(self) -> float:
        """Tokens of one epoch."""
        return float(self.lengths.sum())

    @property
    def longest(self) -> int:
        """Tokens of the longest group of items."""
        return int(self.lengths.max())

    @property
    def mean(self) -> float:
        """Tokens of a group of items, on average."""
        return float(self.lengths.mean())

    @cached_property
    def trained_share(self) -> float:
        """Share of the tokens that carry loss."""
        return trained_share(self.folders)

    @property
    def square_length(self) -> float:
        """Keys that a token is scored with, on average, its own future included."""
        return float((self.lengths.astype(np.float64) ** 2).sum() / self.tokens)

    def load(self, batch_tokens: int, micro_batch_tokens: int, _steps: int | None) -> Load:
        """The largest micro-batch, cut as training cuts it."""
        plan = Plan(self.lengths, batch_tokens, micro_batch_tokens, self.seed)
        steps = range(_steps or plan.steps_per_epoch)
        load = heaviest(plan, self.lengths, steps, self.trained_share)
        return replace(load, looked=-(-self.looked // micro_batch_tokens))

    @property
    def looked(self) -> int:
        """Tokens that only go forward."""
        splits = [load_manifest(folder).splits for folder in self.folders]
        train, held_out = (sum(one[name].tokens for one in splits) for name in SPLITS)
        return tokens_looked_at(train, held_out, compared=self.compared)


@dataclass(frozen=True)
class Supposed:
    """Items of full length, as many as are said."""

    tokens: float
    longest: int
    trained_share: float = 1.0

    @property
    def mean(self) -> float:
        """Tokens of a group of items."""
        return float(self.longest)

    @property
    def square_length(self) -> float:
        """Keys that a token is scored with."""
        return float(self.longest)

    def load(self, batch_tokens: int, micro_batch_tokens: int, _steps: int | None) -> Load:
        """As many items as a micro-batch needs to be full, whichever step it is."""
        items = max(1, -(-min(batch_tokens, micro_batch_tokens) // self.longest))
        tokens = items * self.longest
        trained = round(tokens * self.trained_share)
        return Load(tokens, trained, *laid_out(np.full(items, self.longest)), shapes=MANY)


def work_of(config: ForecastConfig, context: int) -> Work:
    """The work that the data of a training, or a number of tokens, stands for."""
    data = config.data or []
    objective = config.objective or ("dpo" if config.stage == "align" else None)
    group = 1 if objective in (None, "kto") else 2
    if data and all((path / MANIFEST).is_file() for path in data):
        return Counted(tuple(data), config.seed, group, objective in COMPARING)
    tokens = sum(_size(path) for path in data) / BYTES_PER_TOKEN
    return Supposed(tokens or config.tokens or 0.0, context * group)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
