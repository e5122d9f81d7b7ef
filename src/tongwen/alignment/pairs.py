"""Objectives on pairs of a chosen and a rejected answer: DPO and its variants, ORPO, SimPO.

Each is a function of the log-probabilities of the answers alone, so it can be checked by hand; what
a step's loss is divided by are its pairs. Formulas are those of the papers; where an answer's
length counts, it is its trained tokens.

Legend: M items of a row, chosen and rejected in turn; P pairs; N items of the whole set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.alignment.scores import item_logps, shares
from tongwen.config import AlignConfig
from tongwen.train.batch import Batch, Whole
from tongwen.train.objective import Loss, Objective

DISCOPOP_TAU = 0.05
CERTAIN = 1e-6
"""-log p per token, in nats, below which an answer counts as certain."""


@dataclass(frozen=True)
class Side:
    """The chosen or the rejected answers of pairs."""

    logp_P: Tensor
    reference_P: Tensor
    """The same of the reference; zeros where an objective has none."""
    tokens_P: Tensor

    @property
    def ratio(self) -> Tensor:
        """log p/p_reference of each answer, [P]."""
        return self.logp_P - self.reference_P

    @property
    def mean(self) -> Tensor:
        """log p per token, [P]."""
        return self.logp_P / self.tokens_P


@dataclass(frozen=True)
class Pairs:
    """Chosen and rejected answers."""

    chosen: Side
    rejected: Side

    @property
    def gap(self) -> Tensor:
        """By how much the log ratio of the chosen answer is larger, [P]."""
        return self.chosen.ratio - self.rejected.ratio

    @property
    def mean_gap(self) -> Tensor:
        """The same with log ratios per token."""
        return (
            self.chosen.ratio / self.chosen.tokens_P - self.rejected.ratio / self.rejected.tokens_P
        )


@dataclass(frozen=True)
class Verdict:
    """The loss of each pair, and the rewards that the objective implies."""

    loss_P: Tensor
    chosen_P: Tensor
    rejected_P: Tensor


Method = Callable[[Pairs], Verdict]
DpoForm = Callable[[Pairs, float, float], Tensor]
"""A variant of DPO: loss [P] of pairs, beta and label smoothing."""


def pair_objective(method: Method, reference_N: Tensor | None) -> Objective:
    """The mean over the step's pairs of a method's loss."""

    def objective(model: PreTrainedModel, batch: Batch, whole: Whole) -> Loss:
        pairs = pairs_of(item_logps(model, batch), batch, reference_N)
        return verdict_loss(method(pairs), pairs, whole)

    return objective


def pairs_of(logp_M: Tensor, batch: Batch, reference_N: Tensor | None) -> Pairs:
    """The pairs of a row from the log-probabilities of its items."""
    if reference_N is None:
        reference_M = torch.zeros_like(logp_M)
    else:
        reference_M = reference_N[torch.from_numpy(batch.item_M)].to(logp_M.device)
    tokens_M = torch.tensor(batch.trained_M, dtype=torch.float32).to(logp_M.device)
    both = [Side(logp_M[n::2], reference_M[n::2], tokens_M[n::2]) for n in (0, 1)]
    return Pairs(*both)


def verdict_loss(verdict: Verdict, pairs: Pairs, whole: Whole) -> Loss:
    """A micro-batch's share of the mean over the step's pairs."""
    margin_P = verdict.chosen_P - verdict.rejected_P
    figures = shares(
        whole,
        accuracy=(margin_P > 0).float(),
        margin=margin_P,
        reward_chosen=verdict.chosen_P,
        reward_rejected=verdict.rejected_P,
        logp_chosen=pairs.chosen.logp_P,
        logp_rejected=pairs.rejected.logp_P,
    )
    return Loss(verdict.loss_P.sum() / whole.groups, figures)


def dpo(config: AlignConfig) -> Method:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, eq. 7).

    `sft_weight` adds the loss per token on the chosen answer (RPO; Pang et al. 2024,
    arXiv:2404.19733, eq. 1).
    """
    form, beta, smoothing = DPO_FORMS[config.dpo_loss], config.strength, config.label_smoothing

    def method(pairs: Pairs) -> Verdict:
        loss_P = form(pairs, beta, smoothing)
        if config.sft_weight:
            loss_P = loss_P - config.sft_weight * pairs.chosen.mean
        return Verdict(loss_P, beta * pairs.chosen.ratio, beta * pairs.rejected.ratio)

    return method


def orpo(config: AlignConfig) -> Method:
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691, eq. 6 and 7).

    The probability of an answer is the geometric mean over its tokens (eq. 2).
    """

    def method(pairs: Pairs) -> Verdict:
        chosen_P, rejected_P = pairs.chosen.mean, pairs.rejected.mean
        odds_P = _log_odds(chosen_P) - _log_odds(rejected_P)
        loss_P = -chosen_P - config.orpo_lambda * F.logsigmoid(odds_P)
        return Verdict(loss_P, config.orpo_lambda * chosen_P, config.orpo_lambda * rejected_P)

    return method


def simpo(config: AlignConfig) -> Method:
    """Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734, eq. 6)."""
    beta = config.strength

    def method(pairs: Pairs) -> Verdict:
        chosen_P, rejected_P = beta * pairs.chosen.mean, beta * pairs.rejected.mean
        loss_P = -F.logsigmoid(chosen_P - rejected_P - config.simpo_gamma)
        return Verdict(loss_P, chosen_P, rejected_P)

    return method


def _log_odds(logp_P: Tensor) -> Tensor:
    """log p/(1 - p) from log p, which is kept off 0: a certain answer has infinite odds."""
    return logp_P - torch.log(-torch.expm1(logp_P.clamp(max=-CERTAIN)))


def _both(gap_P: Tensor, smoothing: float) -> Tensor:
    loss_P: Tensor = -(1 - smoothing) * F.logsigmoid(gap_P) - smoothing * F.logsigmoid(-gap_P)
    return loss_P


def _sigmoid(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    """DPO; with label smoothing cDPO (Mitchell 2023, ericmitchell.ai/cdpo.pdf)."""
    return _both(beta * pairs.gap, smoothing)


def _sigmoid_norm(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    """Length-normalised DPO (Lambert et al. 2024, Tülu 3, arXiv:2411.15124, eq. 6)."""
    return _both(beta * pairs.mean_gap, smoothing)


def _ipo(pairs: Pairs, beta: float, _: float) -> Tensor:
    """IPO (Azar et al. 2023, arXiv:2310.12036, eq. 17), per token as its authors do."""
    return torch.square(pairs.mean_gap - 1 / (2 * beta))


def _hinge(pairs: Pairs, beta: float, _: float) -> Tensor:
    """The hinge loss of SLiC (Zhao et al. 2023, arXiv:2305.10425) on DPO's rewards."""
    return torch.relu(1 - beta * pairs.gap)


def _robust(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409, eq. 12): unbiased under wrong labels."""
    right_P, wrong_P = F.logsigmoid(beta * pairs.gap), F.logsigmoid(-beta * pairs.gap)
    return (-(1 - smoothing) * right_P + smoothing * wrong_P) / (1 - 2 * smoothing)


def _exo_pair(pairs: Pairs, beta: float, smoothing: float) -> Tensor:
    """EXO (Ji et al. 2024, arXiv:2402.00856, eq. 16): the KL the other way round."""
    gap_P = beta * pairs.gap
    right, wrong = math.log(1 - smoothing), math.log(smoothing)
    win_P: Tensor = F.logsigmoid(gap_P)
    lose_P: Tensor = F.logsigmoid(-gap_P)
    return win_P.exp() * (win_P - right) + lose_P.exp() * (lose_P - wrong)


def _nca_pair(pairs: Pairs, beta: float, _: float) -> Tensor:
    """NCA (Chen et al. 2024, arXiv:2402.05369)."""
    chosen_P, rejected_P = beta * pairs.chosen.ratio, beta * pairs.rejected.ratio
    return -F.logsigmoid(chosen_P) - 0.5 * F.logsigmoid(-chosen_P) - 0.5 * F.logsigmoid(-rejected_P)


def _bco_pair(pairs: Pairs, beta: float, _: float) -> Tensor:
    """BCO (Jung et al. 2024, arXiv:2404.04656) with a reward shift of zero."""
    return -F.logsigmoid(beta * pairs.chosen.ratio) - F.logsigmoid(-beta * pairs.rejected.ratio)


def _sppo_hard(pairs: Pairs, beta: float, _: float) -> Tensor:
    """SPPO (Wu et al. 2024, arXiv:2405.00675, eq. 4.7) with hard labels."""
    wanted = 0.5 / beta
    return torch.square(pairs.chosen.ratio - wanted) + torch.square(pairs.rejected.ratio + wanted)


def _apo_zero(pairs: Pairs, beta: float, _: float) -> Tensor:
    """APO-zero (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7): chosen up, rejected down."""
    return 1 - torch.sigmoid(beta * pairs.chosen.ratio) + torch.sigmoid(beta * pairs.rejected.ratio)


def _apo_down(pairs: Pairs, beta: float, _: float) -> Tensor:
    """APO-down (the same, eq. 8): both down, the rejected one further."""
    return torch.sigmoid(beta * pairs.chosen.ratio) + 1 - torch.sigmoid(beta * pairs.gap)


def _discopop(pairs: Pairs, beta: float, _: float) -> Tensor:
    """DiscoPOP (Lu et al. 2024, arXiv:2406.08414, eq. 5)."""
    gap_P = beta * pairs.gap
    share_P = torch.sigmoid(gap_P / DISCOPOP_TAU)
    return -F.logsigmoid(gap_P) * (1 - share_P) + torch.exp(-gap_P) * share_P


DPO_FORMS: dict[str, DpoForm] = {
    "sigmoid": _sigmoid,
    "sigmoid_norm": _sigmoid_norm,
    "ipo": _ipo,
    "hinge": _hinge,
    "robust": _robust,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
}
