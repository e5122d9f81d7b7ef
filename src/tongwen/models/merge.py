"""Put adapters onto their base models, and both into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tongwen.errors import ModelError
from tongwen.models.adapter import lora_scaling
from tongwen.models.adapter_folder import (
    PREFIX_KEY,
    Weights,
    alpha_of,
    check_base,
    own_name,
    prefix_weights,
    read_settings,
    read_weights,
)
from tongwen.models.folder import base_folder, load_weights
from tongwen.models.lora import LoraLinear
from tongwen.models.prefix import PREFIXED, add_prefix
from tongwen.models.quantized import QuantLinear
from tongwen.models.streaming import load_quantized
from tongwen.models.targets import embedding_names, replace, tied


def load_adapted(place: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The base model of an adapter folder with the adapter merged into it, as `dtype`.

    A base that was quantised in training is restored from its quantised form: those are the weights
    that the adapter was fitted to. A prefix has no place in the weights and stays beside them.
    """
    model = load_attached(place)
    merge(model, dtype)
    return model


def load_attached(place: Path) -> PreTrainedModel:
    """The base model of an adapter folder, as it is stored or quantised, under the adapter."""
    base = base_folder(place)
    quant = check_base(place, base)
    model = load_weights(base, "auto") if quant is None else load_quantized(base, quant, None)
    model.requires_grad_(False)
    settings, weights = read_settings(place), read_weights(place)
    if settings["peft_type"] == "LORA":
        _attach_lora(model, settings, weights, place)
    else:
        _attach_prefix(model, settings, weights, place)
    return model


@torch.no_grad()
def merge(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Turn adapted and quantised layers into plain ones, computed in fp32, and all to `dtype`."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLinear):
            replace(model, name, _linear(layer.merged_weight().to(dtype), layer.base.bias))
        elif isinstance(layer, QuantLinear) and not name.endswith(".base"):
            replace(model, name, _linear(layer.dequantize(dtype), layer.bias))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.requires_grad_()


def _linear(weight_OI: Tensor, bias: nn.Parameter | None) -> nn.Linear:
    outputs, inputs = weight_OI.shape
    layer = nn.Linear(inputs, outputs, bias=False, device="meta")
    layer.weight = nn.Parameter(weight_OI)
    layer.register_parameter("bias", bias)
    return layer


def _attach_lora(
    model: PreTrainedModel, settings: dict[str, Any], stored: Weights, place: Path
) -> None:
    weights = {own_name(key): tensor for key, tensor in stored.items()}
    if isinstance(how := settings.get("init_lora_weights"), str) and how not in ("gaussian", "eva"):
        raise ModelError(
            f"the adapter in {place} began as {how}, which changes the base model too",
            "merge it with the tool that made it",
        )
    _untie(model, weights)
    for name in list(weights):
        module, _, part = name.rpartition(".")
        if part == "lora_A":
            layer = _layer(model, module, settings, len(weights[name]), place)
            if f"{module}.magnitude" in weights:
                layer.magnitude = nn.Parameter(weights[f"{module}.magnitude"])
    _fill(model, weights, place)


def _untie(model: PreTrainedModel, weights: Weights) -> None:
    """Part embeddings and head that are tied, where an adapter has different ones for them."""
    if not tied(model):
        return
    found = [weights.get(f"{name}.weight") for name in embedding_names(model)]
    first, second = found
    if first is second or (first is not None and second is not None and first.equal(second)):
        return
    head = cast(nn.Linear, model.get_output_embeddings())
    head.weight = nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def _layer(
    model: PreTrainedModel, name: str, settings: dict[str, Any], r: int, place: Path
) -> LoraLinear:
    """A LoRA layer in the place of a linear one."""
    base = _found(model, name, place)
    if not isinstance(base, nn.Linear | QuantLinear):
        raise ModelError(
            f"the adapter in {place} changes {name}, which is no linear layer",
            "merge it with the tool that made it",
        )
    alpha = alpha_of(settings, name)
    layer = LoraLinear(base, r, lora_scaling(alpha, r, rslora=bool(settings.get("use_rslora"))))
    replace(model, name, layer)
    return layer


def _attach_prefix(
    model: PreTrainedModel, settings: dict[str, Any], stored: Weights, place: Path
) -> None:
    if PREFIX_KEY not in stored or settings.get("prefix_projection"):
        raise ModelError(
            f"the adapter in {place} makes its prefix by a network", "such prefixes cannot be read"
        )
    add_prefix(model, int(settings["num_virtual_tokens"]), seed=0)
    _fill(model, prefix_weights(stored[PREFIX_KEY], model), place)
    model.set_attn_implementation(PREFIXED)


def _fill(model: PreTrainedModel, weights: Weights, place: Path) -> None:
    """Put every tensor of an adapter where it belongs; none is left over."""
    for name, tensor in weights.items():
        module_name, _, part = name.rpartition(".")
        module = _found(model, module_name, place)
        old = getattr(module, part, None)
        if not isinstance(old, nn.Parameter) or old.shape != tensor.shape:
            raise ModelError(
                f"the adapter in {place} holds {name} {list(tensor.shape)}, and its base model has "
                + ("no place for it" if old is None else f"{list(old.shape)} there"),
                "give the base model that it was trained on",
            )
        old.data = tensor


def _found(model: PreTrainedModel, name: str, place: Path) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ModelError(
            f"the adapter in {place} changes {name}, which its base model does not have",
            "give the base model that it was trained on",
        ) from None
