"""Adapter folders, as PEFT reads and writes them.

    adapter_model.safetensors   the weights that learned, by PEFT's names
    adapter_config.json         their kind and numbers, and where the base model lies
    base.json                   sha256 of the base model's files, and how it was quantised
    tokenizer …

base.json is ours, and PEFT passes it over. An adapter fits one base model, and over another one of
the same shape it says nonsense without any error; so the base is told by its content.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.config import AdapterConfig
from tongwen.config.adapter import Quant
from tongwen.errors import ModelError
from tongwen.files import sha256_file
from tongwen.models.folder import ADAPTER_CONFIG
from tongwen.models.lora import LoraLinear
from tongwen.models.prefix import Prefix, attention_names
from tongwen.models.targets import linear_names

Weights = dict[str, Tensor]

WEIGHTS, BASE = "adapter_model.safetensors", "base.json"
FRONT = "base_model.model."
# What a parameter of a LoRA layer is called in PEFT's files.
ENDS = {
    "lora_A": "lora_A.weight",
    "lora_B": "lora_B.weight",
    "magnitude": "lora_magnitude_vector",
}
PREFIX_KEY = "prompt_embeddings"


@dataclass(frozen=True)
class Base:
    """The base model of an adapter, by content."""

    sha256: dict[str, str]
    quant: Quant | None

    @classmethod
    def of(cls, folder: Path, quant: Quant | None) -> Base:
        """The base in a model folder."""
        return cls({p.name: sha256_file(p) for p in sorted(folder.glob("*.safetensors"))}, quant)


def adapter_settings(model: PreTrainedModel, config: AdapterConfig, base: Path) -> dict[str, Any]:
    """What adapter_config.json says of an adapted model."""
    return {
        "base_model_name_or_path": str(base.resolve()),
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        **(
            _prefix_settings(model, config)
            if config.method == "prefix"
            else _lora_settings(model, config)
        ),
    }


def peft_weights(model: PreTrainedModel, weights: Weights) -> Weights:
    """The weights of an adapted model that learn, by PEFT's names, from those by our own."""
    if any(isinstance(module, Prefix) for module in model.modules()):
        parts = [
            weights[f"{name}.prefix.{part}"].flatten(1)
            for name in attention_names(model)
            for part in ("keys", "values")
        ]
        return {PREFIX_KEY: torch.cat(parts, dim=1)}
    stored = {peft_name(name): tensor for name, tensor in weights.items()}
    # Embeddings and head that are tied are one parameter here, and two in PEFT.
    for name in _saved_modules(model):
        module = model.get_submodule(name)
        for part, parameter in module.named_parameters(recurse=False):
            first = next(n for n, p in model.named_parameters() if p is parameter)
            stored[peft_name(f"{name}.{part}")] = weights[first]
    return stored


def own_weights(model: PreTrainedModel, stored: Weights) -> Weights:
    """The weights of an adapter by our names, from what `peft_weights` made of them.

    All of them, whether `model` has a place for them or not; of tied embeddings and head, one.
    """
    if PREFIX_KEY in stored:
        return prefix_weights(stored[PREFIX_KEY], model)
    once = {name for name, _ in model.named_parameters()}
    second = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    weights = {own_name(key): tensor for key, tensor in stored.items()}
    return {name: tensor for name, tensor in weights.items() if name not in second}


def peft_name(name: str) -> str:
    """What PEFT calls a parameter."""
    module, _, part = name.rpartition(".")
    return f"{FRONT}{module}.{ENDS.get(part, part)}"


def own_name(key: str) -> str:
    """What we call a tensor of a PEFT folder."""
    name = key.removeprefix(FRONT)
    for part, end in ENDS.items():
        if name.endswith((f".{end}", f".{end}.weight")):
            return f"{name[: name.index(f'.{end}')]}.{part}"
    return name


def prefix_weights(stored: Tensor, model: PreTrainedModel) -> Weights:
    """The keys and values of every layer from PEFT's one matrix, [P, layers · 2 · G · D]."""
    names = attention_names(model)
    _, heads, width = model.get_parameter(f"{names[0]}.prefix.keys").shape
    parts = stored.unflatten(1, (len(names), 2, heads, width)).unbind(1)
    return {
        f"{name}.prefix.{part}": pair[:, place].contiguous()
        for name, pair in zip(names, parts, strict=True)
        for place, part in enumerate(("keys", "values"))
    }


def alpha_of(settings: dict[str, Any], module: str) -> float:
    """The alpha of a layer, which patterns may set apart."""
    for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(alpha)
    return float(settings["lora_alpha"])


def check_base(adapter: Path, base: Path) -> Quant | None:
    """Refuse a base model that is not the adapter's; how the base was quantised in training."""
    told = told_base(adapter)
    if told is None:
        return None
    if Base.of(base, told.quant) != told:
        raise ModelError(
            f"the adapter in {adapter} was trained on another model than the one in {base}",
            "its weights have another sha256; give the base model that it was trained on",
        )
    return told.quant


def told_base(adapter: Path) -> Base | None:
    """The base model that an adapter folder of ours tells; those of others tell none."""
    path = adapter / BASE
    return Base(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def read_settings(adapter: Path) -> dict[str, Any]:
    """The adapter_config.json of a folder."""
    path = adapter / ADAPTER_CONFIG
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        kind = settings["peft_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error}", "copy the adapter again") from error
    if kind not in ("LORA", "PREFIX_TUNING"):
        raise ModelError(
            f"the adapter in {adapter} is of the kind {kind}, which is not supported",
            "LoRA, rsLoRA, DoRA and prefix tuning are; merge it with the tool that made it",
        )
    return dict(settings)


def read_weights(adapter: Path) -> Weights:
    """The tensors of an adapter folder, by PEFT's names."""
    if not (adapter / WEIGHTS).is_file():
        raise ModelError(
            f"no {WEIGHTS} in {adapter}",
            "other weight formats can run code when read; save the adapter as safetensors",
        )
    return load_file(adapter / WEIGHTS)


def _lora_settings(model: PreTrainedModel, config: AdapterConfig) -> dict[str, Any]:
    targets = [name for name, module in model.named_modules() if isinstance(module, LoraLinear)]
    others = [name for name in linear_names(model) if not name.endswith(".base")]
    saved = _saved_modules(model)
    return {
        "peft_type": "LORA",
        "r": config.lora_r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "target_modules": _short(targets, others),
        "modules_to_save": _short(saved, [n for n, _ in model.named_modules()]) or None,
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _saved_modules(model: PreTrainedModel) -> list[str]:
    """The modules that learn in full; of embeddings tied to the output head, both."""
    return [
        name
        for name, module in model.named_modules()
        if not isinstance(module, LoraLinear)
        and any(p.requires_grad for p in module.parameters(recurse=False))
    ]


def _short(names: list[str], others: list[str]) -> list[str]:
    """The last parts of the names where they mean nothing else, or the whole names."""
    ends = sorted({name.rpartition(".")[2] for name in names})
    wrong = [one for one in others if one not in names and one.endswith(tuple(ends))]
    return names if ends and wrong else ends


def _prefix_settings(model: PreTrainedModel, config: AdapterConfig) -> dict[str, Any]:
    names = attention_names(model)
    _, heads, width = model.get_parameter(f"{names[0]}.prefix.keys").shape
    return {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": config.prefix_tokens,
        "num_layers": len(names),
        "num_attention_heads": heads,
        "token_dim": heads * width,
        "num_transformer_submodules": 1,
        "encoder_hidden_size": heads * width,
        "prefix_projection": False,
    }
