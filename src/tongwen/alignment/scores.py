"""Log-probabilities of answers, and what is asked of held-out answers.

Legend: K trained positions, M items, N items of a whole set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.train.batch import Batch, Whole
from tongwen.train.heldout import parts_of, spread
from tongwen.train.loop import Exam
from tongwen.train.mix import Ints
from tongwen.train.objective import Objective, token_logps
from tongwen.train.processes import exchange, share


class Answers(Protocol):
    """Items by number: how long they are, and rows of them."""

    lengths: Ints

    def batch(self, items: Ints) -> Batch:
        """Pack items side by side into one row."""


def item_sums(values_K: Tensor, trained_M: Sequence[int]) -> Tensor:
    """The sum over the trained positions of each item, [M]."""
    return torch.stack([part.sum() for part in values_K.split(list(trained_M))])


def item_logps(model: PreTrainedModel, batch: Batch) -> Tensor:
    """log p of each item's answer given its prompt [M], in nats, with gradient."""
    return item_sums(token_logps(model, batch), batch.trained_M)


def shares(whole: Whole, **columns: Tensor) -> dict[str, float]:
    """Figures of a micro-batch: shares of the means over the groups of the whole step."""
    return {name: float(one.detach().sum()) / whole.groups for name, one in columns.items()}


@contextmanager
def resting(model: PreTrainedModel) -> Iterator[None]:
    """The model without gradients and without the noise of training."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def members(groups: Ints, group: int) -> Ints:
    """The items of groups of `group` items that stand one after another."""
    return (groups[:, None] * group + np.arange(group)).ravel()


def exam_of(
    items: Answers,
    group: int,
    objective: Objective,
    batch_tokens: int,
    prepared: Callable[[PreTrainedModel, Sequence[Batch]], list[Batch]] | None = None,
) -> Exam | None:
    """The objective's own loss and figures on held-out groups; None where nothing is held out.

    `prepared` adds to batches what the objective needs beside them, as its source does in training.
    """
    lengths_G = items.lengths.reshape(-1, group).sum(1)
    if len(lengths_G) == 0:
        return None

    def exam(model: PreTrainedModel, most_tokens: int) -> dict[str, float]:
        chosen = spread(lengths_G, most_tokens)
        mine, idle = share(parts_of(chosen, lengths_G, batch_tokens))
        batches = [items.batch(members(part, group)) for part in mine]
        if idle:
            batches[-1] = replace(batches[-1], idle=True)
        # Nothing here is divided by tokens: what is judged are answers.
        whole = Whole(step=0, trained=0, groups=len(chosen))
        with resting(model):
            if prepared is not None:
                batches = prepared(model, batches)
            losses = [objective(model, batch.to(model.device), whole) for batch in batches]
        parts = [
            {"loss": float(one.value), **one.figures}
            for one, batch in zip(losses, batches, strict=True)
            if not batch.idle
        ]
        everyone = [one for theirs in exchange(parts) for one in theirs]
        return {
            f"held_out_{name}": math.fsum(one[name] for one in everyone) for name in everyone[0]
        }

    return exam
