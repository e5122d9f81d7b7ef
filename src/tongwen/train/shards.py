"""Checkpoints that several processes write together, each the rows that it holds.

    checkpoints/step-000000400/
        shard-00000-of-00004.safetensors …   rows of weights and moments, by name
        checkpoint.json                       as in every checkpoint

The metadata of a shard say for every name which row its first one is, and how many rows there are
in all; what all processes have alike is in the first shard alone. So any number of processes reads
the rows that it needs, and one process reads whole weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from tongwen.files import new_folder
from tongwen.models.tensors import write_tensors
from tongwen.train.folders import Hashes, Weights
from tongwen.train.processes import exchange, leads, rank, world

PATTERN = "shard-*.safetensors"
Rows = dict[str, tuple[int, int]]
"""The first of the rows held here, and the rows of the whole, by name."""


@contextmanager
def shared_folder(out: Path) -> Iterator[Path]:
    """A new folder that all processes fill; it becomes `out` if all of them come to the end."""
    if leads():
        with new_folder(out) as folder:
            exchange(str(folder))
            yield folder
            exchange(None)
    else:
        yield Path(exchange(None)[0])
        exchange(None)
    exchange(None)


def write_shard(folder: Path, groups: Mapping[str, tuple[Weights, Rows]]) -> Hashes:
    """Write what this process holds of each group; returns the hashes of all shards."""
    name = f"shard-{rank():05}-of-{world():05}.safetensors"
    kept: Weights = {}
    places: dict[str, tuple[int, int]] = {}
    for group, (tensors, rows) in groups.items():
        kept |= {f"{group}/{key}": one for key, one in tensors.items() if key in rows or leads()}
        places |= {f"{group}/{key}": place for key, place in rows.items()}
    sha = write_tensors(folder / name, kept, {"rows": json.dumps(places)})
    with (folder / name).open("rb") as file:
        os.fsync(file.fileno())
    return dict(exchange([name, sha]))


class Shards(Mapping[str, Tensor]):
    """A group of whole tensors out of shards, and any rows of them; read when asked for."""

    def __init__(self, folder: Path, group: str) -> None:
        self._prefix = f"{group}/"
        files: list[Any] = [safe_open(path, "pt") for path in sorted(folder.glob(PATTERN))]
        self._parts: dict[str, list[tuple[int, Any]]] = {}
        self._totals: dict[str, int] = {}
        for file in files:
            rows = json.loads(file.metadata()["rows"])
            for key in file.keys():  # noqa: SIM118 (it is no mapping)
                if key.startswith(self._prefix):
                    first, total = rows.get(key, (0, 0))
                    self._parts.setdefault(key, []).append((first, file))
                    self._totals[key] = total

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._parts)

    def __getitem__(self, key: str) -> Tensor:
        if total := self.total(key):
            return self.rows(key, 0, total)
        _, file = self._parts[self._prefix + key][0]
        tensor: Tensor = file.get_tensor(self._prefix + key)
        return tensor

    def total(self, key: str) -> int:
        """The rows of a tensor that is divided by rows; 0 for one that is not."""
        return self._totals[self._prefix + key]

    def rows(self, key: str, begin: int, end: int) -> Tensor:
        """The rows from `begin` up to `end` of a tensor."""
        pieces: list[Tensor] = []
        for first, file in sorted(self._parts[self._prefix + key], key=itemgetter(0)):
            held = file.get_slice(self._prefix + key)
            low, high = max(begin - first, 0), min(end - first, held.get_shape()[0])
            # One without rows says what shape no rows have.
            if low < high or not pieces:
                pieces.append(held[low:high] if low < high else held[0:0])
        return torch.cat(pieces)
