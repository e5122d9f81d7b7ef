"""Load whatever a folder holds: a model, the end of a run, or an adapter with its base model."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from tongwen.config import AdapterConfig
from tongwen.errors import ConfigError
from tongwen.models.folder import base_folder, is_adapter, load_weights, resolve_model, stored_dtype
from tongwen.models.merge import load_adapted
from tongwen.models.streaming import load_quantized


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load a model, run or adapter folder as `dtype`; an adapter is merged into its base."""
    place = resolve_model(folder)
    return load_adapted(place, dtype) if is_adapter(place) else load_weights(place, dtype)


def load_base(folder: Path, config: AdapterConfig) -> PreTrainedModel:
    """Load the model that `config` will train: as it is stored, or quantised.

    Weights as they are stored stay in their file until they are used; quantised ones are so while
    they are read. So the model never stands in memory in full before it is made ready.
    """
    if config.method == "full":
        place = resolve_model(folder)
        if is_adapter(place):
            return load_adapted(place, torch.float32)
        return _as_stored(place)
    place = whole_model(folder)
    if config.method == "qlora":
        return load_quantized(place, config.quant, None)
    return load_weights(place, "auto")


def _as_stored(place: Path) -> PreTrainedModel:
    """A model whose weights come as they are stored; what it computes beside them is fp32."""
    model = load_weights(place, stored_dtype(place))
    rounded = (b.is_floating_point() and b.dtype != torch.float32 for b in model.buffers())
    # A scale that was rounded to bf16 stays so when the weights are widened.
    return load_weights(place, torch.float32) if any(rounded) else model


def whole_model(folder: Path) -> Path:
    """The model folder that `folder` means, which must not be an adapter."""
    place = resolve_model(folder)
    if is_adapter(place):
        raise ConfigError(
            f"{folder} is an adapter, and an adapter is trained over a whole model",
            f"give the model that it was trained on: {base_folder(place)}",
        )
    return place
