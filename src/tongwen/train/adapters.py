"""What learns beside or instead of a whole model, the folder it becomes, and what it draws."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import AdapterConfig, TrainConfig
from tongwen.errors import ConfigError
from tongwen.models.adapter import adapt
from tongwen.models.adapter_folder import (
    BASE,
    WEIGHTS,
    Base,
    adapter_settings,
    own_weights,
    peft_weights,
)
from tongwen.models.draws import Draws
from tongwen.models.folder import ADAPTER_CONFIG
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
        self._beside = tokenizer_files(tokenizer) | {
            ADAPTER_CONFIG: _json(adapter_settings(model, config, base)),
            BASE: _json(asdict(Base.of(base, quant))),
        }

    def write(self, folder: Path, weights: Weights) -> Hashes:
        """Write the weights that learn by PEFT's names."""
        stored = peft_weights(self._model, weights)
        return {
            **write_files(folder, self._beside),
            self.weights_file: write_tensors(folder / self.weights_file, stored, {"format": "pt"}),
        }

    def read(self, folder: Path) -> Weights:
        """The weights of a folder that `write` filled, by parameter name."""
        return own_weights(self._model, load_file(folder / self.weights_file))


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
