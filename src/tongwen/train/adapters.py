"""What learns beside or instead of a whole model, the folder it becomes, and what it draws."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import AdapterConfig, TrainConfig
from tongwen.errors import ConfigError, ModelError, RunError
from tongwen.models.adapter import adapt
from tongwen.models.adapter_folder import (
    BASE,
    WEIGHTS,
    Base,
    adapter_settings,
    own_weights,
    peft_weights,
    read_settings,
    read_weights,
    told_base,
)
from tongwen.models.draws import Draws
from tongwen.models.folder import ADAPTER_CONFIG, is_adapter
from tongwen.models.loading import whole_model
from tongwen.models.tensors import write_tensors
from tongwen.train.batch import Batch, Whole
from tongwen.train.folders import (
    Folder,
    Hashes,
    ModelFolder,
    Weights,
    tokenizer_files,
    write_files,
)
from tongwen.train.objective import Loss, Objective

# What the weights of an adapter mean nothing without, as adapter_config.json calls it.
MEANING = ("peft_type", "r", "lora_alpha", "alpha_pattern", "use_rslora")


class AdapterFolder:
    """A PEFT folder: the weights that learn, in fp32, and what they were trained on."""

    weights_file = WEIGHTS

    def __init__(
        self,
        model: PreTrainedModel,
        config: AdapterConfig,
        base: Path,
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self._model = model
        quant = config.quant if config.method == "qlora" else None
        self._base = Base.of(base, quant)
        self._settings = adapter_settings(model, config, base)
        self._beside = tokenizer_files(tokenizer) | {
            ADAPTER_CONFIG: _json(self._settings),
            BASE: _json(asdict(self._base)),
        }

    def write(self, folder: Path, weights: Weights) -> Hashes:
        """Write the weights that learn by PEFT's names."""
        stored = peft_weights(self._model, weights)
        return {
            **write_files(folder, self._beside),
            self.weights_file: write_tensors(folder / self.weights_file, stored, {"format": "pt"}),
        }

    def read(self, folder: Path) -> Weights:
        """The weights of an adapter of the same base and meaning, by parameter name."""
        self._check(folder)
        return own_weights(self._model, read_weights(folder))

    def _check(self, folder: Path) -> None:
        if not is_adapter(folder):
            raise RunError(
                f"{folder} holds no adapter, and an adapter is to learn",
                "give an adapter, or a run of the same method; a whole model is given as --model",
            )
        told = told_base(folder)
        if told is not None and told.sha256 != self._base.sha256:
            raise ModelError(
                f"the adapter in {folder} was trained on another model than --model",
                "its weights have another sha256; give the base model that it was trained on",
            )
        settings = read_settings(folder)
        for name in MEANING:
            theirs, ours = settings.get(name) or None, self._settings.get(name) or None
            if theirs != ours:
                raise RunError(
                    f"the adapter in {folder} has {name} {theirs}, and this run has {ours}",
                    "give the settings of the adapter, or another one",
                )


def check_method(config: TrainConfig, base: Path | None) -> None:
    """Refuse an adapter where it cannot be, before anything is spent."""
    if config.method == "full":
        return
    if base is None:
        raise ConfigError(
            f"--method {config.method} needs a model that knows something already",
            "give --model, or leave --method out",
        )
    if config.rope is not None:
        raise ConfigError(
            f"--rope changes the positions of the model, and what --method {config.method} makes "
            "cannot hold them",
            "extend the window with --method full",
        )
    whole_model(base)


def made_ready(
    model: PreTrainedModel,
    config: TrainConfig,
    base: Path | None,
    tokenizer: PreTrainedTokenizerFast,
) -> tuple[Draws, Folder]:
    """Make a model learn as the settings say; what it draws, and the folder that it becomes."""
    draws = adapt(model, config, config.seed)
    if config.method == "full":
        return draws, ModelFolder(model, tokenizer)
    assert base is not None, "checked before"
    return draws, AdapterFolder(model, config, whole_model(base), tokenizer)


def drawn(objective: Objective, draws: Draws) -> Objective:
    """The objective with dropout and noise drawn for the items of every micro-batch."""

    def loss(model: PreTrainedModel, batch: Batch, whole: Whole) -> Loss:
        draws.begin(whole.step, batch.item_M, batch.lengths_M)
        return objective(model, batch, whole)

    return loss


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
