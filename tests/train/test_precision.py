"""fp16 with a loss scale, and activations that are computed again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.train.stand import STEPS, batch_of, loss_of, optimizer_of, tiny_model
from transformers import PreTrainedModel

from tongwen.config import PretrainConfig
from tongwen.train.batch import Batch, Whole, Work
from tongwen.train.gradient import LossScale
from tongwen.train.loop import Learner, Task, train_step
from tongwen.train.objective import Loss, language_model
from tongwen.train.recompute import keep_no_activations, recomputing


def test_the_scale_doubles_after_2000_good_steps_and_halves_down_to_one() -> None:
    scale = LossScale()
    assert scale.value == 65536
    for _ in range(1999):
        scale.grow()
    assert scale.value == 65536
    scale.grow()
    assert scale.value == 131072
    assert [scale.halve() for _ in range(18)] == [True] * 17 + [False]
    assert (scale.value, scale.skipped) == (1.0, 17)
    other = LossScale()
    other.load(scale.state())
    assert (other.value, other.skipped) == (1.0, 17)


def test_a_step_that_overflows_is_skipped_and_the_next_one_fits() -> None:
    model, batch = tiny_model(), batch_of(0)
    optimizer = optimizer_of(model, torch.float16, average="ema")
    before = {name: weight.clone() for name, weight in optimizer.masters.weights().items()}
    plain = loss_of(model, batch)

    def steep(one: Batch) -> Loss:
        return Loss(plain(one).value * 32)

    optimizer.losses(steep, [batch])
    assert not math.isfinite(optimizer.gradient_norm(1.0))
    assert optimizer.skip()
    assert optimizer.figures() == {"loss_scale": 32768, "skipped": 1}
    assert all(torch.equal(w, before[n]) for n, w in optimizer.masters.weights().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    while optimizer.figures()["skipped"] < 12:
        optimizer.losses(steep, [batch])
        if math.isfinite(optimizer.gradient_norm(1.0)):
            break
        assert optimizer.skip()
    optimizer.step(1e-3)
    assert not all(torch.equal(w, before[n]) for n, w in optimizer.masters.weights().items())


def test_norm_and_clipping_see_the_gradient_without_the_scale() -> None:
    norms, clipped = [], []
    for dtype in (torch.float32, torch.float16):
        model, batch = tiny_model(), batch_of(0)
        optimizer = optimizer_of(model, dtype)
        norm = math.inf
        while not math.isfinite(norm):
            optimizer.losses(loss_of(model, batch), [batch])
            norm = optimizer.gradient_norm(0.5)
            if not math.isfinite(norm):
                assert optimizer.skip()
        norms.append(norm)
        grads = [master.grad for master in optimizer.masters.masters if master.grad is not None]
        clipped.append(float(torch.nn.utils.get_total_norm(grads)))
    assert norms[1] == pytest.approx(norms[0], rel=0.01)
    assert norms[0] > 0.5
    assert clipped == pytest.approx([0.5, 0.5], rel=1e-3)


def test_the_scale_grows_with_steps_and_not_with_looking() -> None:
    model, batch = tiny_model(), batch_of(0)
    optimizer = optimizer_of(model, torch.float16)
    before = optimizer.state()["loss_scale"]
    optimizer.losses(loss_of(model, batch), [batch])
    assert math.isfinite(optimizer.gradient_norm(0.0))
    assert torch.equal(optimizer.state()["loss_scale"], before)
    optimizer.step(1e-3)
    assert optimizer.state()["loss_scale"][1] == before[1] + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_gradient_that_is_not_finite_is_wrong_where_there_is_no_scale(dtype: torch.dtype) -> None:
    model, batch = tiny_model(), batch_of(0)
    optimizer = optimizer_of(model, dtype)
    plain: Callable[[Batch], Loss] = loss_of(model, batch)
    optimizer.losses(lambda one: Loss(plain(one).value * math.inf), [batch])
    assert not math.isfinite(optimizer.gradient_norm(1.0))
    assert not optimizer.skip()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_activations_computed_again_give_the_same_gradients(dtype: torch.dtype) -> None:
    gradients = []
    for again in (False, True):
        model, batch = tiny_model(), batch_of(0)
        if again:
            keep_no_activations(model)
        optimizer = optimizer_of(model, dtype)
        with recomputing(model):
            optimizer.losses(loss_of(model, batch), [batch])
        gradients.append([master.grad for master in optimizer.masters.masters])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_each_layer_runs_a_second_time_in_the_backward_pass() -> None:
    model, batch = tiny_model(), batch_of(0)
    keep_no_activations(model)
    optimizer = optimizer_of(model)
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: seen.append(1))
    with recomputing(model):
        optimizer.losses(loss_of(model, batch), [batch])
    assert len(seen) == 2


def test_layers_keep_their_caches_outside_of_training_steps() -> None:
    model = tiny_model()
    model.set_attn_implementation("sdpa")
    keep_no_activations(model.eval())
    with recomputing(model):
        pass
    ids = torch.arange(6)[None]
    cache = model(ids, use_cache=True).past_key_values
    assert cache.get_seq_length() == 6


def test_the_loop_records_what_is_skipped_and_goes_on() -> None:
    model = tiny_model()
    optimizer = optimizer_of(model, torch.float16)
    learner = Learner(model, cast("Any", None), optimizer, cast("Any", None))
    task = Task("pretrain", Counting(), steep, None, STEPS)
    config = PretrainConfig(data=[Path("d")], out=Path("o"))
    records = [train_step(learner, task, config, step).record() for step in range(6)]
    skipped = [step for step, record in enumerate(records) if "grad_norm" not in record]
    assert 0 < len(skipped) == records[-1]["skipped"] < 6
    assert records[-1]["loss_scale"] == 65536 / 2 ** len(skipped)


class Counting:
    """Steps of one batch each."""

    steps_per_epoch = STEPS
    step_tokens = 41

    def step(self, step: int) -> Work:
        batch = batch_of(step)
        return Work([batch], Whole(step, len(batch.target_K), 2))


def steep(model: PreTrainedModel, batch: Batch, whole: Whole) -> Loss:
    """A loss whose gradient is out of range at the first scale."""
    return Loss(language_model(model, batch, whole).value * 32)
