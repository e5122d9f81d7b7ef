"""Model folders in the Hugging Face format: find, load, make, save.

Weights are read from safetensors only, and code in a model folder is never executed.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel
from transformers import logging as transformers_logging

from tongwen.config import Size
from tongwen.errors import ModelError
from tongwen.models.sizes import shape_config


def resolve_model(folder: Path) -> Path:
    """The model folder that `folder` means: itself, or `final/` of a run folder."""
    for place in (folder, folder / "final", folder / "finetune" / "final"):
        if (place / "config.json").is_file():
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


def new_model(size: Size, vocab_size: int, context: int, seed: int) -> PreTrainedModel:
    """A LLaMA-shaped model of nominal `size` with random fp32 weights drawn from `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(shape_config(size, vocab_size, context))


def context_window(folder: Path) -> int:
    """Tokens that the model in a folder can see at once, as its config.json says."""
    path = resolve_model(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        text = config.get("text_config", config)
        return int(text.get("max_position_embeddings") or text["n_positions"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path} does not say how many tokens the model can see",
            "it is damaged, or of an architecture that is not supported",
        ) from error


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Load the weights of a model or run folder as `dtype`."""
    place = resolve_model(folder)
    if not list(place.glob("*.safetensors")):
        raise ModelError(
            f"no safetensors weights in {place}",
            hint="other weight formats can run code when read; convert the model first",
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
