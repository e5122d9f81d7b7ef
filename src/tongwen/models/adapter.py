"""Make a model ready to learn: in full, by LoRA over what it knows, or by a prefix before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from tongwen.config import AdapterConfig
from tongwen.errors import ConfigError
from tongwen.models.draws import Draws, columns
from tongwen.models.lora import Frozen, LoraLinear
from tongwen.models.prefix import add_prefix
from tongwen.models.targets import layers_of, module_names, replace, target_names


def adapt(model: PreTrainedModel, config: AdapterConfig, seed: int) -> Draws:
    """Change a model so that what learns is what `requires_grad`.

    New weights are fp32, drawn from (seed, name), and change nothing yet, but for a prefix. Returns
    where dropout and noise come from: its `begin` must be told of every row in training.
    """
    if config.method != "full" and model.get_output_embeddings() is None:
        raise ConfigError(
            f"a {type(model).__name__} learns in full, not by {config.method}",
            "leave --method out",
        )
    draws = Draws(seed)
    if config.method == "full":
        _freeze(model, config)
    elif config.method == "prefix":
        model.requires_grad_(False)
        add_prefix(model, config.prefix_tokens, seed)
    else:
        model.requires_grad_(False)
        whole = module_names(model, config.modules_to_save)
        targets = [n for n in target_names(model, config.lora_targets) if n not in whole]
        _add_lora(model, targets, config, seed, draws)
        for name in whole:
            model.get_submodule(name).requires_grad_()
    if config.neftune:
        _add_noise(model, config.neftune, draws)
    return draws


def lora_scaling(alpha: float, r: int, *, rslora: bool) -> float:
    """What the product of the LoRA matrices is multiplied by."""
    return alpha / math.sqrt(r) if rslora else alpha / r


def _add_lora(
    model: PreTrainedModel, names: Sequence[str], config: AdapterConfig, seed: int, draws: Draws
) -> None:
    scaling = lora_scaling(config.lora_alpha, config.lora_r, rslora=config.rslora)
    for name in names:
        layer = LoraLinear(cast(Frozen, model.get_submodule(name)), config.lora_r, scaling)
        layer.begin(name, seed)
        if config.lora_dropout:
            layer.set_dropout(config.lora_dropout, name, draws)
        if config.dora:
            layer.learn_magnitude()
        replace(model, name, layer)


def _freeze(model: PreTrainedModel, config: AdapterConfig) -> None:
    layers = layers_of(model)
    if config.freeze_layers > len(layers):
        raise ConfigError(
            f"--freeze-layers {config.freeze_layers} is more than the {len(layers)} layers",
            f"give {len(layers)} at most",
        )
    for layer in layers[: config.freeze_layers]:
        layer.requires_grad_(False)
    if config.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)


def _add_noise(model: PreTrainedModel, alpha: float, draws: Draws) -> None:
    """Noise on the embeddings (NEFTune, arXiv:2310.05914).

    Uniform in ±alpha/√(L·H) for a document of L tokens and embeddings of width H.
    """
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    width = embeddings.embedding_dim
    columns_H = columns("neftune", width)

    def noisy(_: nn.Module, __: tuple[Any, ...], out_BTH: Tensor) -> Tensor:
        if not draws.active:
            return out_BTH
        strength_T1 = alpha / (draws.token_lengths()[:, None] * width).sqrt()
        noise_TH = draws.noise(columns_H.to(out_BTH.device)) * strength_T1.to(out_BTH.device)
        return out_BTH + noise_TH.to(out_BTH).view(out_BTH.shape)

    embeddings.register_forward_hook(noisy)
