"""Tokenizer folders: load, save, and tell two tokenizers apart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tongwen.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Where a tokenizer lies inside a model, tokenizer, prepared or run folder.
PLACES = (".", "tokenizer", "final")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model, tokenizer, prepared or run folder."""
    for place in PLACES:
        if (folder / place / "tokenizer.json").is_file():
            return _load(folder / place)
    if not folder.is_dir():
        raise ModelError(
            f"no tokenizer at {folder}: the folder does not exist",
            hint="`tongwen tokenizer train SOURCES --out FOLDER` makes one",
        )
    raise ModelError(
        f"no tokenizer.json in {folder}",
        hint="give a model, tokenizer, prepared or run folder in the Hugging Face format",
    )


def _load(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(
            folder, local_files_only=True
        )
    except Exception as error:  # the library raises bare Exception for a broken tokenizer.json
        raise ModelError(
            f"the tokenizer in {folder} cannot be read: {str(error).splitlines()[0]}",
            hint="its files are damaged or incomplete; copy or train the tokenizer again",
        ) from error
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the tokenizer, with its chat template, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 of all that decides ids: vocabulary, merges, pre-tokenisation and chat template."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    # Truncation and padding are call-time settings that the library keeps in the same object.
    backend.pop("truncation", None)
    backend.pop("padding", None)
    decides = {"backend": backend, "chat_template": tokenizer.chat_template}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
