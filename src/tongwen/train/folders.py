"""What of a model a checkpoint and the end of a run hold, and how it is written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.tokenizer import save_tokenizer

Weights = dict[str, Tensor]


class Folder(Protocol):
    """A folder format for the weights that learn."""

    weights_file: str
    """Name of the file that holds them."""

    def write(self, folder: Path, weights: Weights) -> None:
        """Fill an empty folder with all that whoever loads it needs."""

    def read(self, folder: Path) -> Weights:
        """The weights, by parameter name, as `write` was given them."""


class ModelFolder:
    """A Hugging Face folder: configuration, tokenizer and all weights in fp32."""

    weights_file = "model.safetensors"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def write(self, folder: Path, weights: Weights) -> None:
        """Write the weights that learn, and those that do not, as fp32."""
        config = type(self._model.config).from_dict(self._model.config.to_dict())
        config.architectures = [type(self._model).__name__]
        config.dtype = torch.float32
        config.save_pretrained(folder)
        if self._model.generation_config is not None:
            self._model.generation_config.save_pretrained(folder)
        whole = {
            name: weights.get(name, parameter.detach()).float().contiguous()
            for name, parameter in self._model.named_parameters()
        }
        save_file(whole, folder / self.weights_file, metadata={"format": "pt"})
        save_tokenizer(self._tokenizer, folder)

    def read(self, folder: Path) -> Weights:
        """The weights of a folder that `write` filled."""
        return load_file(folder / self.weights_file)
