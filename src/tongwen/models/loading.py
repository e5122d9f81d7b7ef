"""Load whatever a folder holds: a model, the end of a run, or an adapter with its base model."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from tongwen.config import AdapterConfig
from tongwen.errors import ConfigError
from tongwen.models.folder import base_folder, is_adapter, load_weights, resolve_model
from tongwen.models.merge import load_adapted
from tongwen.models.streaming import load_quantized


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a model, run or adapter folder as `dtype`; an adapter is merged into its base."""
    place = resolve_model(folder)
    return load_adapted(place, dtype) if is_adapter(place) else load_weights(place, dtype)


def load_base(folder: Path, config: AdapterConfig) -> PreTrainedModel:
    """Load the model that `config` will train: what does not learn as it is stored, or quantised.

    Quantised weights are so while they are read: the model never stands in memory in full.
    """
    if config.method == "full":
        return load_model(folder, torch.float32)
    place = whole_model(folder)
    if config.method == "qlora":
        return load_quantized(place, config.quant, None)
    return load_weights(place, "auto")


def whole_model(folder: Path) -> Path:
    """The model folder that `folder` means, which must not be an adapter."""
    place = resolve_model(folder)
    if is_adapter(place):
        raise ConfigError(
            f"{folder} is an adapter, and an adapter is trained over a whole model",
            f"give the model that it was trained on: {base_folder(place)}",
        )
    return place
