"""A model small enough to take many steps, a batch for it, and optimisers of it; a sudden end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tongwen.config import PretrainConfig
from tongwen.models import PACKED, new_model
from tongwen.train import loop
from tongwen.train.batch import Batch, Whole, pack
from tongwen.train.gradient import LossOf
from tongwen.train.objective import language_model
from tongwen.train.optim import Optimizer, new_optimizer

STEPS = 20
VOCABULARY = 300


def tiny_model(seed: int = 0) -> PreTrainedModel:
    model = new_model("1m", VOCABULARY, 64, seed)
    model.set_attn_implementation(PACKED)
    return model


def batch_of(seed: int) -> Batch:
    """Two sequences that count upwards from a random number."""
    source = np.random.default_rng(seed)
    ids = [(source.integers(3, VOCABULARY) + np.arange(size)) % VOCABULARY for size in (24, 17)]
    return pack(ids, [np.ones(len(one), dtype=np.bool_) for one in ids], np.arange(2))


def optimizer_of(
    model: PreTrainedModel, dtype: torch.dtype = torch.float32, **settings: Any
) -> Optimizer:
    config = PretrainConfig(data=[Path("d")], out=Path("o"), **settings)
    return new_optimizer(model, config, dtype, STEPS)


def loss_of(model: PreTrainedModel, batch: Batch) -> LossOf:
    whole = Whole(step=0, trained=len(batch.target_K), groups=len(batch.item_M))
    return lambda one: language_model(model, one, whole)


def take_step(model: PreTrainedModel, optimizer: Optimizer, step: int, lr: float = 3e-3) -> float:
    """One step on the batch of that step; returns the loss."""
    batch = batch_of(step)
    (loss,) = optimizer.losses(loss_of(model, batch), [batch])
    if np.isfinite(optimizer.gradient_norm(1.0)):
        optimizer.step(lr)
    else:
        assert optimizer.skip()
    return float(loss.value)


@contextmanager
def interrupted_before(number: int) -> Iterator[None]:
    """A run that ends at once, unsaved, when it comes to step `number` (from 0)."""
    step = loop.train_step

    def interrupted(learner: Any, task: Any, config: Any, now: int) -> Any:
        if now == number:
            raise KeyboardInterrupt
        return step(learner, task, config, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield
