"""Model folders in the Hugging Face format: find, load, make, save.

Weights are read from safetensors only, and code in a model folder is never executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel
from transformers import logging as transformers_logging

from tongwen.config import Size
from tongwen.errors import ModelError
from tongwen.models.sizes import shape_config

ADAPTER_CONFIG: Final = "adapter_config.json"
_STORED = {"BF16": torch.bfloat16, "F16": torch.float16}


def resolve_model(folder: Path) -> Path:
    """The model or adapter folder that `folder` means: itself, or `final/` of a run folder."""
    for place in (folder, folder / "final", folder / "finetune" / "final"):
        if (place / "config.json").is_file() or is_adapter(place):
            return place
    if not folder.exists():
        raise ModelError(
            f"no model at {folder}: the folder does not exist",
            hint="give a model folder or a finished run folder; `tongwen quickstart` makes one",
        )
    if (folder / "course.json").is_file():
        raise ModelError(
            f"the quickstart in {folder} is not finished",
            hint="run `tongwen quickstart` again with the same --out to continue it",
        )
    if (folder / "checkpoints").is_dir():
        raise ModelError(
            f"the run in {folder} is not finished: it has no final model",
            hint="run the same command again to continue it",
        )
    raise ModelError(
        f"no config.json in {folder}",
        hint="give a model folder in the Hugging Face format, or a finished run folder",
    )


def is_adapter(place: Path) -> bool:
    """Whether a folder holds an adapter, in PEFT's format."""
    return (place / ADAPTER_CONFIG).is_file()


def base_folder(adapter: Path) -> Path:
    """Where an adapter says that its base model lies."""
    path = adapter / ADAPTER_CONFIG
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error}", "copy the adapter again") from error
    if named and (Path(named) / "config.json").is_file():
        return Path(named)
    raise ModelError(
        f"the base model of the adapter in {adapter} is not at {named}",
        f"put it there, or write its folder into {path} as base_model_name_or_path",
    )


def weights_folder(folder: Path) -> Path:
    """The folder with configuration and weights: for an adapter, that of its base model."""
    place = resolve_model(folder)
    return base_folder(place) if is_adapter(place) else place


def tokenizer_folder(place: Path) -> Path:
    """The folder with the tokenizer: an adapter of others may have none beside it."""
    return place if (place / "tokenizer.json").is_file() else weights_folder(place)


def new_model(size: Size, vocab_size: int, context: int, seed: int) -> PreTrainedModel:
    """A LLaMA-shaped model of nominal `size` with random fp32 weights drawn from `seed`."""
    # Weights are drawn on the processor; the generators of cards are left alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(shape_config(size, vocab_size, context))


def context_window(folder: Path) -> int:
    """Tokens that the model in a folder can see at once, as its config.json says."""
    path = weights_folder(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text = config.get("text_config", config)
        return int(text.get("max_position_embeddings") or text["n_positions"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} does not say how many tokens the model can see",
            "it is damaged, or of an architecture that is not supported",
        ) from error


def stored_dtype(place: Path) -> torch.dtype:
    """The precision of all weights of a folder; fp32, which holds them all, where they differ."""
    kinds = set()
    try:
        for path in place.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                kinds |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        # What is wrong with them is said when they are loaded.
        return torch.float32
    return _STORED.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32


def load_weights(place: Path, dtype: torch.dtype | Literal["auto"]) -> PreTrainedModel:
    """Load a model folder as `dtype`, or as it is stored."""
    if not list(place.glob("*.safetensors")):
        raise ModelError(
            f"no safetensors weights in {place}",
            hint="other weight formats can run code when read; convert the model first",
        )
    if _judges(place):
        raise ModelError(
            f"{place} is a reward model: it judges answers and gives none",
            hint="give the model that answers here, and this one with --reward",
        )
    # The library's loading bar would break ours; what it has to say comes as exceptions.
    transformers_logging.disable_progress_bar()
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            # Left out, the library would ask on the terminal whether to run it.
            trust_remote_code=False,
        )
    except Exception as error:  # the library's own errors have no common class
        raise ModelError(
            f"the model in {place} cannot be loaded: {str(error).splitlines()[0]}",
            hint="its files are damaged, incomplete, or of an architecture that is not supported",
        ) from error
    return model


def _judges(place: Path) -> bool:
    """Whether a model's head scores; the library would make up one that speaks."""
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    names = config.get("architectures") or []
    return any(str(name).endswith("ForSequenceClassification") for name in names)
