"""KTO: its formula, and a baseline that belongs to the whole step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tongwen.alignment.kto import Baseline, Mismatched, good_answers, kto, kto_loss
from tongwen.train.batch import Items, Rows, Whole
from tongwen.train.plan import Plan

from .conftest import WINDOW, formula_model, items_of, plain_logp, random_pairs
from .test_pairs import settings, sigmoid


@pytest.fixture(scope="module")
def judged() -> Items:
    """Twelve answers to six prompts, good and bad in turn."""
    return items_of([side for pair in random_pairs() for side in pair], ("good", "bad"))


def test_the_loss_by_hand() -> None:
    """Rewards 0.5·(3, 3, -1) against z0 = 1, the second and third bad."""
    ratio = torch.tensor([3.0, 3.0, -1.0], requires_grad=True)
    config = settings("kto", beta=0.5, kto_desirable=1.5, kto_undesirable=0.75)
    good = torch.tensor([True, False, False])
    loss = kto_loss(config, ratio, torch.ones(3), good, Whole(0, 9, 3))
    values = [1.5 * (1 - sigmoid(1.0)), 0.75 * (1 - sigmoid(-1.0)), 0.75 * (1 - sigmoid(1.0))]
    assert float(loss.value.detach()) == pytest.approx(sum(values) / 3)
    loss.value.backward()
    slope = sigmoid(1.0) * sigmoid(-1.0) * 0.5 / 3
    assert ratio.grad is not None
    assert ratio.grad.tolist() == pytest.approx([-1.5 * slope, 0.75 * slope, 0.75 * slope])
    assert loss.figures == pytest.approx({"accuracy": 2 / 3, "margin": 1 / 3, "kl": 1.0})


def test_chosen_answers_are_good_ones(pairs: Items, judged: Items) -> None:
    assert good_answers(pairs).tolist() == good_answers(judged).tolist() == [True, False] * 6


def test_every_prompt_has_the_answer_of_another(judged: Items) -> None:
    others = Mismatched(judged, 0, WINDOW)
    batch = others.batch(np.arange(12))
    answers = {tuple(judged.ids(n)[judged.mask(n)].tolist()): n for n in range(12)}
    partners = []
    for n, ids in enumerate(batch.ids_T.split(list(batch.lengths_M))):
        begin = int(judged.mask(n).argmax())
        assert ids[:begin].tolist() == judged.ids(n)[:begin].tolist()
        partners.append(answers[tuple(ids[begin:].tolist())])
    assert sorted(partners) == list(range(12))
    assert all(partner != n for n, partner in enumerate(partners))
    assert tuple(others.lengths) == batch.lengths_M


def test_what_the_window_does_not_hold_is_cut(judged: Items) -> None:
    others = Mismatched(judged, 0, 9)
    assert max(others.batch(np.arange(12)).lengths_M) == others.lengths.max() == 9


def test_z0_is_that_of_the_whole_step(policy: PreTrainedModel, judged: Items) -> None:
    """The definition, item by item, and the same loss however the step is cut."""
    others = Mismatched(judged, 0, WINDOW)
    teacher = formula_model(2)
    teacher.set_attn_implementation("eager")
    alone = formula_model(1)
    alone.set_attn_implementation("eager")
    made = [others.batch(np.array([n])) for n in range(12)]
    rows = items_of([split(batch) for batch in made], ("good",))
    reference_kl = torch.stack([plain_logp(teacher, rows, n) for n in range(12)]).detach()
    policy_kl = torch.stack([plain_logp(alone, rows, n) for n in range(12)]).detach()
    reference = torch.stack([plain_logp(teacher, judged, n) for n in range(12)]).detach()
    # Log ratios large enough for a mean above zero, where it would be cut off.
    reference_kl -= float((policy_kl - reference_kl).mean().abs()) * 2 + 1
    expected = float((policy_kl - reference_kl).mean())
    assert expected > 0

    losses = []
    for micro in (10**6, 40, 1):
        plan = Plan(judged.lengths, 10**6, micro, 0)
        work = Rows(judged, plan).step(0)
        batches = Baseline(others, reference_kl)(policy, work.batches)
        values = torch.cat([batch.values["z0"] for batch in batches])
        assert values.tolist() == pytest.approx([expected] * 12, rel=1e-5)
        objective = kto(settings("kto"), good_answers(judged), reference)
        policy.zero_grad()
        shares = [objective(policy, batch, work.whole) for batch in batches]
        for share in shares:
            share.value.backward()
        head = policy.get_output_embeddings().weight.grad
        losses.append((math.fsum(float(one.value.detach()) for one in shares), head.clone()))
    for loss, gradient in losses[1:]:
        assert abs(loss - losses[0][0]) < 1e-6
        assert float((gradient - losses[0][1]).abs().max()) < 1e-5


def split(batch: object) -> tuple[np.ndarray, np.ndarray]:
    """Prompt and answer of a row with a single item."""
    begin = int(batch.trained_K[0]) + 1  # type: ignore[attr-defined]
    ids = batch.ids_T.numpy()  # type: ignore[attr-defined]
    return ids[:begin], ids[begin:]
