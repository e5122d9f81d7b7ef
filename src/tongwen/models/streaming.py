"""Load a model with its linear layers quantised, one tensor at a time.

The model never stands in memory in full: every tensor is read, quantised and dropped before the
next one is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from tongwen.config.adapter import Quant
from tongwen.errors import ModelError
from tongwen.models.nf4 import NF4Linear
from tongwen.models.quantized import Int8Linear
from tongwen.models.targets import linear_names, replace

KINDS: dict[Quant, type[NF4Linear] | type[Int8Linear]] = {"nf4": NF4Linear, "int8": Int8Linear}
# Old LLaMA files hold the frequencies of rotary positions, which follow from the configuration.
NO_WEIGHT = ".rotary_emb.inv_freq"


def load_quantized(place: Path, quant: Quant, dtype: torch.dtype | None) -> PreTrainedModel:
    """A model folder with all linear layers but the output head quantised, and nothing learning.

    What is not quantised comes as `dtype`, or, where that is None, as it is stored.
    """
    config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    linear = set(linear_names(model))
    for name, tensor in _tensors(place):
        module_name, _, part = name.rpartition(".")
        module = _module(model, module_name, part, place)
        if part == "weight" and module_name in linear:
            replace(model, module_name, KINDS[quant](tensor, module.bias))
        else:
            stored = nn.Parameter(tensor.to(dtype or tensor.dtype), requires_grad=False)
            setattr(module, part, stored)
    model.tie_weights()
    _fill_buffers(model)
    if missing := [name for name, p in model.named_parameters() if p.is_meta]:
        raise ModelError(f"{place} lacks the weight {missing[0]}", "copy the model again")
    if (place / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(place, local_files_only=True)
    model.requires_grad_(False)
    model.eval()
    return model


def _tensors(place: Path) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a folder, one at a time."""
    for path in sorted(place.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    if not name.endswith(NO_WEIGHT):
                        yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read: {error}", "copy the model again") from error


def _module(model: PreTrainedModel, name: str, part: str, place: Path) -> Any:
    """The module that a stored tensor belongs to."""
    try:
        module = model.get_submodule(name)
        module.get_parameter(part)
    except AttributeError:
        raise ModelError(
            f"{place} holds {name}.{part}, which {type(model).__name__} has no place for",
            "models whose files name weights otherwise cannot be quantised; give `--method lora`",
        ) from None
    return module


def _fill_buffers(model: PreTrainedModel) -> None:
    """Compute what follows from the configuration, such as the frequencies of positions."""
    for module in model.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            module.to_empty(device="cpu", recurse=False)
            model._init_weights(module)
