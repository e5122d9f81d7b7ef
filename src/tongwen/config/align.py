"""Settings of learning from judgements: preferences, good and bad answers, verifiable rewards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Positive, Rate
from tongwen.config.train import TrainConfig

Weight = Annotated[float, Field(ge=0.0)]
Objective = Literal["dpo", "orpo", "simpo", "kto", "reward", "grpo"]
DpoLoss = Literal[
    "sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "exo_pair", "nca_pair", "bco_pair",
    "sppo_hard", "apo_zero", "apo_down", "discopop",
]  # fmt: skip
Verifier = Literal["exact", "contains", "number", "format", "length"]

# What each objective's paper takes for beta where it has one.
BETAS: dict[Objective, float] = {"dpo": 0.1, "simpo": 2.0, "kto": 0.1, "grpo": 0.0}
COMPARING: tuple[Objective, ...] = ("dpo", "kto", "grpo")
"""Objectives that compare the model with a reference."""
NORMALISED_BETA = 5.0
"""What Tülu 3 (arXiv:2411.15124) takes for beta where log ratios are means over tokens."""
SMOOTHED: tuple[DpoLoss, ...] = ("sigmoid", "sigmoid_norm", "robust", "exo_pair")
"""Losses of dpo that know of label smoothing."""


class AlignConfig(TrainConfig):
    """Teach a model from preferences, from good and bad answers, or from rewards."""

    model: Path
    """Model folder or run folder to start from."""
    objective: Objective = "dpo"
    """Pairs for dpo, orpo, simpo and reward (a judge), judged answers for kto, tasks for grpo."""
    lr: Rate = 5e-6
    """Highest learning rate."""
    weight_decay: Weight = 0.0
    """Decoupled weight decay of matrices; norms and embeddings have none."""
    beta: Weight | None = None
    """Scale of rewards: by default 0.1, in sigmoid_norm 5, in simpo 2. Weight of grpo's KL: 0."""
    reference: Path | None = None
    """Model that dpo, kto and grpo compare with, instead of the starting model."""
    dpo_loss: DpoLoss = "sigmoid"
    """Loss of dpo: sigmoid is the paper's, sigmoid_norm that of means over tokens."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    """Probability that a pair is judged wrongly, in sigmoid, sigmoid_norm, robust and exo_pair."""
    sft_weight: Weight = 0.0
    """Weight of the plain loss on chosen answers beside dpo's (RPO); 1 is usual."""
    orpo_lambda: Rate = 0.1
    """Weight of the odds ratio beside the plain loss on chosen answers, in orpo."""
    simpo_gamma: Weight = 1.0
    """Margin by which the reward of the chosen answer should be larger, in simpo."""
    kto_desirable: Rate = 1.0
    """Weight of good answers in kto; with the other weight it should even out their numbers."""
    kto_undesirable: Rate = 1.0
    """Weight of bad answers in kto."""
    reward_margin: Weight = 0.0
    """Margin by which the reward of the chosen answer should be larger, in reward."""
    reward_center: Weight = 0.0
    """Weight of a term that keeps the rewards of a pair around zero; 0.01 is usual."""
    verify: Annotated[list[Verifier], Field(min_length=1, default_factory=lambda: ["exact"])]
    """What grpo rewards: the answer of the data, said exactly or contained, its number, or form."""
    verify_weights: Annotated[list[Rate], Field(min_length=1)] | None = None
    """Weight of each reward of `verify`, in order; equal weights if not given."""
    verify_format: str | None = None
    """Regular expression that a whole answer must match, for the reward `format`."""
    verify_length: Positive = 200
    """Most characters of an answer that has the whole reward `length`."""
    grpo_group: Annotated[int, Field(ge=2)] = 8
    """Answers to each prompt."""
    grpo_tokens: Positive = 256
    """Longest answer in tokens."""
    grpo_updates: Positive = 1
    """Optimiser steps with the same answers."""
    grpo_clip: Rate = 0.2
    """How far from 1 a token's probability ratio counts, when answers are used more than once."""
    grpo_norm: Literal["answer", "token", "constant"] = "answer"
    """Mean over each answer's tokens (GRPO), all tokens (DAPO), or a constant number (Dr. GRPO)."""
    grpo_scale: bool = True
    """Divide advantages by the deviation of the group's rewards; Dr. GRPO does not."""

    @model_validator(mode="after")
    def _settings_of_the_objective(self) -> Self:
        for name, objectives in SETTINGS.items():
            default = AlignConfig.model_fields[name].get_default(call_default_factory=True)
            if self.objective not in objectives and getattr(self, name) != default:
                raise ValueError(
                    f"{name} is a setting of objective {' and '.join(objectives)}, and objective "
                    f"is {self.objective}"
                )
        return self

    @model_validator(mode="after")
    def _values_of_the_objective(self) -> Self:
        if self.beta == 0 and self.objective != "grpo":
            raise ValueError(f"beta is 0, with which {self.objective} learns nothing")
        if self.verify_weights is not None and len(self.verify_weights) != len(self.verify):
            raise ValueError(
                f"verify_weights has {len(self.verify_weights)} numbers for the "
                f"{len(self.verify)} rewards of verify"
            )
        if self.objective == "grpo" and self.shard != "none":
            raise ValueError(f"grpo generates with whole weights, and shard is {self.shard}")
        if ("format" in self.verify) != (self.verify_format is not None):
            raise ValueError("the reward `format` and verify_format go together")
        try:
            re.compile(self.verify_format or "")
        except re.error as error:
            raise ValueError(
                f"verify_format {self.verify_format!r} is no regular expression: {error}"
            ) from None
        if self.dpo_loss == "exo_pair" and self.label_smoothing == 0:
            raise ValueError("the loss exo_pair needs label_smoothing above 0, such as 0.001")
        if self.label_smoothing and self.dpo_loss not in SMOOTHED:
            raise ValueError(f"the loss {self.dpo_loss} knows no label_smoothing")
        return self

    @model_validator(mode="after")
    def _what_it_learns_beside(self) -> Self:
        if self.objective == "reward" and self.method != "full":
            raise ValueError(f"a reward model is trained with method full, not {self.method}")
        if self.objective in ("dpo", "kto") and self.method == "prefix" and self.reference is None:
            raise ValueError(
                f"{self.objective} would compare with the model behind a random prefix; give the "
                "model as reference"
            )
        if self.objective == "grpo" and self.strength > 0 and self.method == "qlora":
            raise ValueError("beta compares with whole weights, and those of qlora are rounded")
        if (
            self.objective == "grpo"
            and self.strength > 0
            and self.warm_start is not None
            and self.reference is None
        ):
            raise ValueError(
                "beta would compare with the model before warm_start; give what it starts from "
                "as reference"
            )
        return self

    def resolved(self) -> Self:
        """The settings with `beta` as the objective's paper has it, where it was not given."""
        return self.model_copy(update={"beta": self.strength or None})

    @property
    def strength(self) -> float:
        """`beta`, or what the objective's paper takes for it; 0 where it has none."""
        if self.beta is not None:
            return self.beta
        if self.objective == "dpo" and self.dpo_loss == "sigmoid_norm":
            return NORMALISED_BETA
        return BETAS.get(self.objective, 0.0)


PAIRS: tuple[Objective, ...] = ("dpo",)
GRPO: tuple[Objective, ...] = ("grpo",)
SETTINGS: dict[str, tuple[Objective, ...]] = {
    "beta": tuple(BETAS),
    "reference": COMPARING,
    "dpo_loss": PAIRS,
    "label_smoothing": PAIRS,
    "sft_weight": PAIRS,
    "orpo_lambda": ("orpo",),
    "simpo_gamma": ("simpo",),
    "kto_desirable": ("kto",),
    "kto_undesirable": ("kto",),
    "reward_margin": ("reward",),
    "reward_center": ("reward",),
    **dict.fromkeys(("verify", "verify_weights", "verify_format", "verify_length"), GRPO),
    **dict.fromkeys(
        ("grpo_group", "grpo_tokens", "grpo_updates", "grpo_clip", "grpo_norm", "grpo_scale"), GRPO
    ),
}
