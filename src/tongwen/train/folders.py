"""What of a model a checkpoint and the end of a run hold, and how it is written and read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.files import write_hashed
from tongwen.models.tensors import write_tensors
from tongwen.tokenizer import save_tokenizer

Weights = dict[str, Tensor]
Hashes = dict[str, str]
"""sha256 of what each file of a folder is meant to hold, by its name."""


class Folder(Protocol):
    """A folder format for the weights that learn."""

    weights_file: str
    """Name of the file that holds them."""

    def write(self, folder: Path, weights: Weights) -> Hashes:
        """Fill an empty folder with all that whoever loads it needs."""

    def read(self, folder: Path) -> Weights:
        """The weights, by parameter name, as `write` was given them."""


class ModelFolder:
    """A Hugging Face folder: configuration, tokenizer and all weights in fp32."""

    weights_file = "model.safetensors"

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self._model = model
        self._beside = _beside(model, tokenizer)

    def write(self, folder: Path, weights: Weights) -> Hashes:
        """Write the weights that learn, and those that do not, as fp32."""
        whole = {
            name: weights.get(name, parameter.detach()).float()
            for name, parameter in self._model.named_parameters()
        }
        return {
            **write_files(folder, self._beside),
            self.weights_file: write_tensors(folder / self.weights_file, whole, {"format": "pt"}),
        }

    def read(self, folder: Path) -> Weights:
        """The weights of a model folder, in one file or in several."""
        files = sorted(folder.glob("model*.safetensors"))
        return {name: weight for file in files for name, weight in load_file(file).items()}


def write_files(folder: Path, files: dict[str, bytes]) -> Hashes:
    """Write small files, given by their names."""
    hashes = {}
    for name, content in files.items():
        path = folder / name
        if path.parent != folder:
            path.parent.mkdir(exist_ok=True)
        hashes[name] = write_hashed(path, [content])
    return hashes


def tokenizer_files(tokenizer: PreTrainedTokenizerFast) -> dict[str, bytes]:
    """The files of a tokenizer, by their names."""
    with tempfile.TemporaryDirectory() as place:
        save_tokenizer(tokenizer, Path(place))
        return _contents(Path(place))


def _beside(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, bytes]:
    """What lies beside the weights. It never changes, so the libraries write it only once."""
    config = type(model.config).from_dict(model.config.to_dict())
    config.architectures = [type(model).__name__]
    config.dtype = torch.float32
    with tempfile.TemporaryDirectory() as place:
        config.save_pretrained(place)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(place)
        return _contents(Path(place)) | tokenizer_files(tokenizer)


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
