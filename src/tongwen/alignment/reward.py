"""Learning a reward model from pairs.

The probability that one answer is better than another is the logistic function of the difference of
their rewards (Bradley & Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1), with a margin
that the difference should have (Touvron et al. 2023, arXiv:2307.09288, eq. 2) and a term that keeps
rewards around zero (Eisenstein et al. 2023, arXiv:2312.09244, eq. 2).

Legend: M items of a row, chosen and rejected in turn; P pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.alignment.scores import shares
from tongwen.config import AlignConfig
from tongwen.models.reward import reward_scores
from tongwen.train.batch import Batch, Whole
from tongwen.train.objective import Loss, Objective


def reward(config: AlignConfig) -> Objective:
    """The mean over the step's pairs of -log p(the chosen answer is better)."""

    def objective(model: PreTrainedModel, batch: Batch, whole: Whole) -> Loss:
        last_M = (torch.tensor(batch.lengths_M).cumsum(0) - 1).to(batch.ids_T.device)
        score_M = reward_scores(model, batch.ids_T, batch.position_T, batch.packing, last_M)
        return reward_loss(config, score_M[0::2], score_M[1::2], whole)

    return objective


def reward_loss(config: AlignConfig, chosen_P: Tensor, rejected_P: Tensor, whole: Whole) -> Loss:
    """The share of pairs with these rewards in the loss of a step."""
    margin_P = chosen_P - rejected_P
    loss_P = -F.logsigmoid(margin_P - config.reward_margin)
    loss_P = loss_P + config.reward_center * (chosen_P + rejected_P) ** 2
    figures = shares(
        whole,
        accuracy=(margin_P > 0).float(),
        margin=margin_P,
        reward_chosen=chosen_P,
        reward_rejected=rejected_P,
    )
    return Loss(loss_P.sum() / whole.groups, figures)
