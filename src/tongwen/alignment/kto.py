"""KTO: learning from answers that were found good or bad, each by itself.

Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8. An answer's reward is compared with z0, an estimate
of the KL divergence from the reference: the mean log ratio of answers to prompts that are not
theirs, over the whole step, so it does not depend on micro-batches. In the paper partners are drawn
within a batch; here every prompt has one for the whole run, so that the reference has to be asked
only once.

Legend: M items of a row, N items of the whole set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.alignment.scores import item_logps, resting, shares
from tongwen.config import AlignConfig
from tongwen.data import KINDS
from tongwen.train.batch import Batch, Items, Source, Whole, Work, pack
from tongwen.train.loop import Learner
from tongwen.train.mix import Ints
from tongwen.train.objective import Loss, Objective
from tongwen.train.processes import exchange

GOOD = ("good", "chosen")
PARTNERS = 101
"""Purpose of the draw of partners."""


class Mismatched:
    """Every prompt with the answer to another one; items have the numbers of their prompts."""

    def __init__(self, items: Items, seed: int, window: int) -> None:
        self._items = items
        self._window = window
        order = np.random.default_rng([seed, PARTNERS]).permutation(len(items))
        self._partner = np.empty_like(order)
        self._partner[order] = np.roll(order, -1)
        self._begin = np.array([int(items.mask(n).argmax()) for n in range(len(items))])
        answers = items.lengths - self._begin
        self.lengths: Ints = np.minimum(self._begin + answers[self._partner], window)

    def batch(self, items: Ints) -> Batch:
        """Pack items side by side into one row; what the window does not hold of them is cut."""
        ids, masks = [], []
        for item in items.tolist():
            other, begin = int(self._partner[item]), int(self._begin[item])
            answer = slice(int(self._begin[other]), None)
            both = self._items.ids(item)[:begin], self._items.ids(other)[answer]
            mask = np.zeros(begin, dtype=np.bool_), self._items.mask(other)[answer]
            ids.append(np.concatenate(both)[: self._window])
            masks.append(np.concatenate(mask)[: self._window])
        return pack(ids, masks, items)


class Baseline:
    """Puts z0 into the batches of a step, as `values["z0"]` of every item."""

    def __init__(self, mismatched: Mismatched, reference_N: Tensor) -> None:
        self._mismatched = mismatched
        self._reference_N = reference_N

    def __call__(self, model: PreTrainedModel, batches: Sequence[Batch]) -> list[Batch]:
        """The batches with z0 of all of them, and of those of the other processes."""
        ratios: list[float] = []
        with resting(model):
            for batch in batches:
                row = self._mismatched.batch(batch.item_M).to(model.device)
                logp_M = item_logps(model, row).cpu()
                ratio_M = logp_M - self._reference_N[torch.from_numpy(batch.item_M)]
                ratios += [] if batch.idle else ratio_M.tolist()
        everyone = [ratio for theirs in exchange(ratios) for ratio in theirs]
        # The sum is exact, so neither rows nor processes can change its last bit.
        z0 = max(0.0, math.fsum(everyone) / len(everyone))
        return [
            replace(batch, values={"z0": torch.full((len(batch.item_M),), z0)}) for batch in batches
        ]


class Judged:
    """The batches of another source, with z0 of their step."""

    def __init__(self, source: Source, learner: Learner, baseline: Baseline) -> None:
        self._source = source
        self._learner = learner
        self._baseline = baseline
        self.steps_per_epoch = source.steps_per_epoch
        self.step_tokens = source.step_tokens

    def step(self, step: int) -> Work:
        """The micro-batches of step `step`, for the model as it is now."""
        work, model = self._source.step(step), self._learner.model
        batches = self._learner.optimizer.masters.look(lambda: self._baseline(model, work.batches))
        return replace(work, batches=batches)


def kto(config: AlignConfig, good_N: Tensor, reference_N: Tensor) -> Objective:
    """The mean over the step's answers of λ(1 - σ(±β(log p/p_reference - z0)))."""

    def objective(model: PreTrainedModel, batch: Batch, whole: Whole) -> Loss:
        item_M = torch.from_numpy(batch.item_M)
        logp_M = item_logps(model, batch)
        reference_M, good_M = (one[item_M].to(logp_M.device) for one in (reference_N, good_N))
        return kto_loss(config, logp_M - reference_M, batch.values["z0"], good_M, whole)

    return objective


def kto_loss(
    config: AlignConfig, ratio_M: Tensor, z0_M: Tensor, good_M: Tensor, whole: Whole
) -> Loss:
    """The share of answers with these log ratios, some of them good, in the loss of a step."""
    sign_M = torch.where(good_M, 1.0, -1.0)
    weight_M = torch.where(good_M, config.kto_desirable, config.kto_undesirable)
    margin_M = sign_M * config.strength * (ratio_M - z0_M)
    loss_M = weight_M * (1 - torch.sigmoid(margin_M))
    figures = shares(whole, accuracy=(margin_M > 0).float(), margin=margin_M, kl=z0_M)
    return Loss(loss_M.sum() / whole.groups, figures)


def good_answers(items: Items) -> Tensor:
    """Which items are good answers, [N]."""
    return torch.from_numpy(np.isin(items.kinds, [KINDS.index(kind) for kind in GOOD]))
