"""Objectives on pairs: against TRL, against their formulas, and whatever the batches are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tongwen.alignment.pairs import Method, Pairs, Side, dpo, orpo, pair_objective, simpo
from tongwen.alignment.scores import exam_of, item_logps
from tongwen.config import AlignConfig
from tongwen.train.batch import Items, Whole
from tongwen.train.objective import Loss, Objective

# Loss, norm of the gradient, its elements q_proj[3, 5] of layer 0 and lm_head[FIRST, 7], where
# FIRST is the first token of the first chosen answer: from the `_compute_loss` of TRL 1.16's
# DPOTrainer (torch 2.13, fp32) on `formula_model(1)`, reference `formula_model(2)`,
# `random_pairs()` padded on the right, beta 0.1, label_smoothing 0.1 for robust and exo_pair and 0
# for the others.
TRL = {
    "sigmoid": (0.7677834034, 2.3105269139, -0.0428038761, -0.0018554383),
    "sigmoid_norm": (0.6888269782, 0.2744941291, -0.0036983469, -0.0002024900),
    "ipo": (24.6231613159, 56.0706130160, -0.8128491640, -0.0396633521),
    "hinge": (1.0327445269, 4.0785630213, -0.0731158555, -0.0030371062),
    "robust": (0.7718763351, 2.7936376774, -0.0519433394, -0.0022350773),
    "exo_pair": (0.5695931911, 2.0033861848, -0.0344000310, -0.0022501906),
    "nca_pair": (1.4284014702, 1.1062388177, -0.0194068085, -0.0004927362),
    "bco_pair": (1.4573969841, 2.2419892959, -0.0380470753, -0.0020285742),
    "sppo_hard": (98.5027770996, 727.0929667530, -8.6392793655, -0.7198838592),
    "apo_zero": (1.0024981499, 0.9489569060, -0.0176828541, -0.0009155709),
    "apo_down": (1.0365830660, 0.6466724097, 0.0017728186, 0.0022291373),
    "discopop": (0.8722664714, 2.6432398638, -0.0506555811, -0.0037800642),
}
SMOOTHED = ("robust", "exo_pair")
Gradients = dict[str, torch.Tensor]


def settings(objective: str = "dpo", **changes: Any) -> AlignConfig:
    return AlignConfig(
        model=Path("model"), data=[Path("data")], out=Path("out"),
        **{"objective": objective, **changes},
    )  # fmt: skip


def step(
    model: PreTrainedModel, items: Items, objective: Objective, rows: Sequence[Sequence[int]]
) -> tuple[float, dict[str, float], Gradients]:
    """Loss, figures and gradient of a step whose rows have these pairs."""
    members = [np.ravel([[2 * pair, 2 * pair + 1] for pair in row]) for row in rows]
    batches = [items.batch(row) for row in members]
    whole = Whole(0, sum(len(one.target_K) for one in batches), sum(map(len, rows)))
    model.zero_grad()
    losses: list[Loss] = []
    for batch in batches:
        losses.append(objective(model, batch, whole))
        losses[-1].value.backward()
    figures = {name: math.fsum(one.figures[name] for one in losses) for name in losses[0].figures}
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return math.fsum(float(one.value.detach()) for one in losses), figures, gradients


@pytest.mark.parametrize("form", TRL)
def test_dpo_is_that_of_trl(
    policy: PreTrainedModel, pairs: Items, reference_logps: torch.Tensor, form: str
) -> None:
    smoothing = 0.1 if form in SMOOTHED else 0.0
    config = settings(dpo_loss=form, label_smoothing=smoothing, beta=0.1)
    objective = pair_objective(dpo(config), reference_logps)
    loss, figures, gradients = step(policy, pairs, objective, [range(6)])
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients.values()))
    first = int(pairs.ids(0)[int(pairs.mask(0).argmax())])
    elements = (
        float(gradients["model.layers.0.self_attn.q_proj.weight"][3, 5]),
        float(gradients["lm_head.weight"][first, 7]),
    )
    assert (loss, norm, *elements) == pytest.approx(TRL[form], rel=1e-5, abs=1e-6)
    assert figures["reward_chosen"] == pytest.approx(0.1370697, abs=1e-5)
    assert figures["reward_rejected"] == pytest.approx(0.1698142, abs=1e-5)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["margin"] == pytest.approx(-0.0327445, abs=1e-5)


def test_log_probabilities_are_those_of_the_definition(
    pairs: Items, reference_logps: torch.Tensor
) -> None:
    from .conftest import formula_model

    packed = item_logps(formula_model(2), pairs.batch(np.arange(12)))
    torch.testing.assert_close(packed.detach(), reference_logps, rtol=1e-6, atol=1e-5)


METHODS: list[tuple[str, Callable[[AlignConfig], Method], dict[str, Any]]] = [
    ("dpo", dpo, {}),
    ("dpo", dpo, {"dpo_loss": "ipo", "sft_weight": 1.0}),
    ("orpo", orpo, {}),
    ("simpo", simpo, {}),
]


@pytest.mark.parametrize(("name", "method", "changes"), METHODS)
def test_rows_and_micro_batches_change_nothing(
    policy: PreTrainedModel,
    pairs: Items,
    reference_logps: torch.Tensor,
    name: str,
    method: Callable[[AlignConfig], Method],
    changes: dict[str, Any],
) -> None:
    reference = reference_logps if name == "dpo" else None
    objective = pair_objective(method(settings(name, **changes)), reference)
    loss, figures, gradients = step(policy, pairs, objective, [range(6)])
    for rows in ([[n] for n in range(6)], [[0, 1, 2, 3], [4, 5]], [[5, 1], [3, 0], [2, 4]]):
        other, told, others = step(policy, pairs, objective, rows)
        assert abs(other - loss) < 1e-6 * max(1.0, abs(loss))
        assert told == pytest.approx(figures, rel=1e-5, abs=1e-6)
        for key, gradient in gradients.items():
            # IPO's gradient is large here: its pull is 1/(2β) wide.
            room = 1e-5 * max(1.0, float(gradient.abs().max()))
            assert float((others[key] - gradient).abs().max()) < room


def hand_pairs() -> Pairs:
    """Two pairs: log p, of the reference, tokens."""
    chosen = Side(
        torch.tensor([-6.0, -3.0], requires_grad=True),
        torch.tensor([-7.0, -2.5]),
        torch.tensor([3.0, 2.0]),
    )
    rejected = Side(
        torch.tensor([-8.0, -2.0], requires_grad=True),
        torch.tensor([-7.5, -4.0]),
        torch.tensor([4.0, 1.0]),
    )
    return Pairs(chosen, rejected)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_dpo_by_hand() -> None:
    """Rewards 0.5·(1, -0.5) and 0.5·(-0.5, 2): gaps 0.75 and -1.25."""
    pairs = hand_pairs()
    verdict = dpo(settings(beta=0.5))(pairs)
    expected = [-math.log(sigmoid(gap)) for gap in (0.75, -1.25)]
    assert verdict.loss_P.tolist() == pytest.approx(expected)
    assert verdict.chosen_P.tolist() == pytest.approx([0.5, -0.25])
    verdict.loss_P.sum().backward()
    pull = [0.5 * sigmoid(-gap) for gap in (0.75, -1.25)]
    assert pairs.chosen.logp_P.grad is not None
    assert pairs.rejected.logp_P.grad is not None
    assert pairs.chosen.logp_P.grad.tolist() == pytest.approx([-one for one in pull])
    assert pairs.rejected.logp_P.grad.tolist() == pytest.approx(pull)


def test_label_smoothing_and_the_plain_loss_beside() -> None:
    verdict = dpo(settings(beta=0.5, label_smoothing=0.2, sft_weight=2.0))(hand_pairs())
    expected = [
        -0.8 * math.log(sigmoid(gap)) - 0.2 * math.log(sigmoid(-gap)) + 2 * plain
        for gap, plain in ((0.75, 2.0), (-1.25, 1.5))
    ]
    assert verdict.loss_P.tolist() == pytest.approx(expected)


def test_orpo_by_hand() -> None:
    """Means per token -2, -1.5 and -2, -2: the first pair has equal odds."""
    pairs = hand_pairs()
    verdict = orpo(settings("orpo", orpo_lambda=0.25))(pairs)
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in (-2.0, -1.5)]
    expected = [
        2.0 - 0.25 * math.log(0.5),
        1.5 - 0.25 * math.log(sigmoid(math.log(odds[1] / odds[0]))),
    ]
    assert verdict.loss_P.tolist() == pytest.approx(expected)
    verdict.loss_P.sum().backward()
    # Of the first pair: d log odds / d log p = 1/(1 - p), times 1/tokens.
    pull = 0.25 * 0.5 / (1 - math.exp(-2.0))
    assert pairs.chosen.logp_P.grad is not None
    assert float(pairs.chosen.logp_P.grad[0]) == pytest.approx(-(1 + pull) / 3)
    assert pairs.rejected.logp_P.grad is not None
    assert float(pairs.rejected.logp_P.grad[0]) == pytest.approx(pull / 4)


def test_simpo_by_hand() -> None:
    pairs = hand_pairs()
    verdict = simpo(settings("simpo", beta=2.0, simpo_gamma=0.5))(pairs)
    gaps = [2 * (-2.0 + 2.0) - 0.5, 2 * (-1.5 + 2.0) - 0.5]
    assert verdict.loss_P.tolist() == pytest.approx([-math.log(sigmoid(gap)) for gap in gaps])
    assert (verdict.chosen_P - verdict.rejected_P).tolist() == pytest.approx([0.0, 1.0])
    verdict.loss_P.sum().backward()
    assert pairs.chosen.logp_P.grad is not None
    assert pairs.chosen.logp_P.grad.tolist() == pytest.approx(
        [-2 * sigmoid(-gap) / tokens for gap, tokens in zip(gaps, (3, 2), strict=True)]
    )


def test_the_exam_is_the_mean_over_held_out_pairs(
    policy: PreTrainedModel, pairs: Items, reference_logps: torch.Tensor
) -> None:
    objective = pair_objective(dpo(settings()), reference_logps)
    loss, figures, _ = step(policy, pairs, objective, [range(6)])
    exam = exam_of(pairs, 2, objective, batch_tokens=40)
    assert exam is not None
    told = exam(policy, 10**9)
    assert told["held_out_loss"] == pytest.approx(loss, rel=1e-5)
    assert told["held_out_accuracy"] == pytest.approx(figures["accuracy"])
    assert told["held_out_margin"] == pytest.approx(figures["margin"], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"objective": "orpo", "beta": 0.1}, "beta is a setting of objective dpo and"),
        ({"simpo_gamma": 2.0}, "simpo_gamma is a setting of objective simpo, and objective is dpo"),
        ({"beta": 0.0}, "beta is 0, with which dpo learns nothing"),
        ({"dpo_loss": "exo_pair"}, "needs label_smoothing above 0"),
        ({"dpo_loss": "ipo", "label_smoothing": 0.1}, "the loss ipo knows no label_smoothing"),
        ({"objective": "reward", "method": "lora"}, "trained with method full, not lora"),
        ({"method": "prefix"}, "dpo would compare with the model behind a random prefix"),
        ({"objective": "grpo", "beta": 0.1, "method": "qlora"}, "those of qlora are rounded"),
        ({"objective": "grpo", "beta": 0.1, "warm_start": "m"}, "the model before warm_start"),
        (
            {"objective": "grpo", "verify": ["format"], "verify_format": "("},
            r"verify_format '\(' is no regular expression",
        ),
        ({"objective": "grpo", "verify": ["format"]}, "`format` and verify_format go together"),
        (
            {"objective": "grpo", "verify_weights": [1.0, 2.0]},
            "verify_weights has 2 numbers for the 1 rewards",
        ),
    ],
)
def test_settings_that_cannot_be_meant(changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        settings(**changes)


def test_an_answer_that_is_certain_has_finite_odds() -> None:
    side = [
        Side(torch.tensor([logp], requires_grad=True), torch.zeros(1), torch.ones(1))
        for logp in (0.0, -2.0)
    ]
    loss = orpo(settings("orpo"))(Pairs(*side)).loss_P.sum()
    loss.backward()
    assert loss.isfinite()
    assert all(one.logp_P.grad is not None and one.logp_P.grad.isfinite().all() for one in side)


def test_beta_is_that_of_the_paper_of_the_loss() -> None:
    assert settings(dpo_loss="sigmoid_norm").strength == 5.0
    assert settings(dpo_loss="sigmoid_norm", beta=1.0).strength == 1.0
    assert settings().strength == 0.1
