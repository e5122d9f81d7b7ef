"""Reward models: a language model whose head says in one number how good what it has read is.

The folder is that of transformers' `AutoModelForSequenceClassification` with one label: the
number of the last token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tongwen.errors import ModelError
from tongwen.models.attention import Packing
from tongwen.models.fast import packed_hidden
from tongwen.models.folder import is_adapter, resolve_model
from tongwen.models.loading import load_model

SCORED = "ForSequenceClassification"


def new_reward_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A language model in fp32 with a head of zeros in place of its own: all is equally good."""
    causal = load_model(folder, torch.float32)
    config = type(causal.config).from_dict(causal.config.to_dict())
    config.num_labels = 1
    # Others find the last token as the last that is no padding, so an end must not count as it.
    pad = tokenizer.pad_token_id
    config.pad_token_id = None if pad == tokenizer.eos_token_id else pad
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
        head: Any = model.get_submodule("score")
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{type(causal).__name__} has no form that judges",
            "take a model of a family such as LLaMA, Qwen, Mistral or Gemma",
        ) from error
    setattr(model, model.base_model_prefix, causal.base_model)
    head.weight = nn.Parameter(torch.zeros(head.weight.shape))
    model.generation_config = None  # type: ignore[assignment]
    model.eval()
    return model


def load_reward_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a reward model from a model or run folder."""
    place = resolve_model(folder)
    if is_adapter(place):
        raise ModelError(
            f"{place} is an adapter, and no reward model",
            "`tongwen align --objective reward` makes one",
        )
    try:
        config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        names = config.architectures or ["not told"]
        if not names[0].endswith(SCORED) or config.num_labels != 1:
            raise ModelError(
                f"{place} is no reward model: its architecture is {names[0]}",
                "`tongwen align --objective reward` makes one",
            )
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            place, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except ModelError:
        raise
    except Exception as error:  # the library's own errors have no common class
        raise ModelError(
            f"the reward model in {place} cannot be loaded: {str(error).splitlines()[0]}",
            "its files are damaged, incomplete, or of an architecture that is not supported",
        ) from error
    model.eval()
    return model


def reward_scores(
    model: PreTrainedModel, ids_T: Tensor, position_T: Tensor, packing: Packing, last_M: Tensor
) -> Tensor:
    """The reward of each document of a packed row, from its last token; [M], with gradient."""
    hidden_MH = packed_hidden(model, ids_T, position_T, packing, last_M)
    scores_M: Tensor = model.get_submodule("score")(hidden_MH)[:, 0]
    return scores_M.float()
