"""Log-probabilities of the reference model: computed once, kept in the run folder.

    reference/train-000000.json   {"items": [first, end], "of": …, "logps": [nats, …]}

A file holds the items from `first` up to `end`, each the sum of log p over its trained tokens in
fp32, written so that reading gives the same bits. A file is there whole or not at all, so a run
that was killed goes on behind the last one. `of` is the sha256 of the run's `inputs.json`, which
has those of data and models; precision and batches are what `config.toml` binds the run to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.alignment.scores import Answers, item_logps, resting
from tongwen.files import sha256_file, write_whole
from tongwen.models import PACKED, load_model
from tongwen.models.device import device_of, placed
from tongwen.progress import Progress
from tongwen.train.batch import Batch
from tongwen.train.heldout import parts_of
from tongwen.train.loop import Learner
from tongwen.train.mix import Ints
from tongwen.train.processes import exchange, leaders, leads, share, world
from tongwen.train.run import Run

PART = 256
"""Items of a file: what is computed again at most after a kill."""


class Reference:
    """The stored log-probabilities of a run; a model is asked only where some are missing.

    It is the one that learns, as long as it has not yet learned, or that of a folder.
    """

    def __init__(self, run: Run, learner: Learner, other: Path | None) -> None:
        self._folder = run.folder / "reference"
        self._batch_tokens = run.config.micro_batch_tokens
        self._device = device_of(run.config.device)
        self._of = leaders(sha256_file(run.folder / "inputs.json") if leads() else "")
        self._learner = learner
        self._other = other

    def logps(self, name: str, items: Answers) -> Tensor:
        """log p of every item [N], in nats."""
        count = len(items.lengths)
        values: list[float] = []
        with Progress(f"reference {name}", count) as progress:
            for first in range(0, count, PART):
                part = np.arange(first, min(first + PART, count))
                values += self._part(f"{name}-{first:06}.json", items, part)
                progress.advance(len(values))
        return torch.tensor(values, dtype=torch.float32)

    def _part(self, name: str, items: Answers, part: Ints) -> list[float]:
        path = self._folder / name
        head: dict[str, object] = {"items": [int(part[0]), int(part[-1]) + 1], "of": self._of}
        told = leaders(_stored(path, head) if leads() else None)
        if told is not None:
            return told
        values = self._computed(items, part)
        if leads():
            self._folder.mkdir(exist_ok=True)
            write_whole(path, json.dumps({**head, "logps": values}) + "\n")
        return values

    def _computed(self, items: Answers, part: Ints) -> list[float]:
        pieces = parts_of(part, items.lengths, self._batch_tokens)
        mine, idle = share(pieces)
        asked = self._asked([items.batch(piece) for piece in mine])
        if idle:
            asked.pop()
        everyone = exchange(asked)
        return [x for n in range(len(pieces)) for x in everyone[n % world()][n // world()]]

    def _asked(self, batches: Sequence[Batch]) -> list[list[float]]:
        """log p of the items of each row."""
        model = self._learner.model if self._other is None else self._model
        model.set_attn_implementation(PACKED)

        def ask() -> list[list[float]]:
            with resting(model):
                return [item_logps(model, batch.to(model.device)).tolist() for batch in batches]

        return self._learner.optimizer.masters.look(ask) if self._other is None else ask()

    @cached_property
    def _model(self) -> PreTrainedModel:
        assert self._other is not None, "without a folder the model that learns is asked"
        return placed(load_model(self._other, self._learner.model.dtype), self._device)


def _stored(path: Path, head: dict[str, object]) -> list[float] | None:
    """What a file holds, if it is there and begins as it should."""
    if not path.exists():
        return None
    told = json.loads(path.read_text(encoding="utf-8"))
    values: list[float] = told.pop("logps")
    return values if told == head else None
