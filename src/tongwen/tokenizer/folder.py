"""Tokenizer files and folders: load, save, and tell two tokenizers apart.

    Hugging Face folder      tokenizer.json; also inside a model, run or prepared folder
    SentencePiece            *.model: LLaMA, Baichuan, ChatGLM, …
    tiktoken                 *.tiktoken, and the tokenizer.model of Llama 3
    GGUF                     *.gguf
    GPT-2's pair             encoder.json with vocab.bpe, vocab.json with merges.txt
    llama2.c                 *.bin

A file is known by its content, not its name; nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tongwen.errors import ModelError
from tongwen.tokenizer.pieces import looks_like_pieces, read_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Where a tokenizer lies inside a model, tokenizer, prepared or run folder.
PLACES = (".", "tokenizer", "final")
# Other files that a folder may hold in place of a tokenizer.json, best first.
OTHERS: Final = ("tokenizer.model", "*.tiktoken", "vocab.json", "encoder.json", "spiece.model")
PAIRS: Final = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
HEAD: Final = 4096


def load_tokenizer(path: Path, split: str | None = None) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a file, or of a model, tokenizer, prepared or run folder.

    `split` names how a byte-level vocabulary splits words, where its file does not say it.
    """
    if path.is_file():
        return _load_file(path, split)
    for place in PLACES:
        if (path / place / "tokenizer.json").is_file():
            return _load(path / place)
    for place in PLACES:
        for name in OTHERS:
            for file in sorted((path / place).glob(name)):
                return _load_file(file, split)
    if not path.is_dir():
        raise ModelError(
            f"no tokenizer at {path}: the folder does not exist",
            hint="`tongwen tokenizer train SOURCES --out FOLDER` makes one",
        )
    raise ModelError(
        f"no tokenizer.json in {path}",
        hint="give a model, tokenizer, prepared or run folder in the Hugging Face format",
    )


def _load_file(path: Path, split: str | None) -> PreTrainedTokenizerFast:
    from tongwen.tokenizer.convert import piece_tokenizer
    from tongwen.tokenizer.gguf import MAGIC, read_gguf, read_llama2c
    from tongwen.tokenizer.ranks import looks_like_ranks, read_pair, read_ranks

    with path.open("rb") as file:
        head = file.read(HEAD)
    if path.name == "tokenizer.json":
        return _load(path.parent)
    if head.startswith(MAGIC):
        return read_gguf(path, split)
    if looks_like_ranks(head):
        return read_ranks(path, split)
    for encoder, merges in PAIRS:
        if path.name.endswith(encoder):
            other = path.with_name(path.name.removesuffix(encoder) + merges)
            if not other.is_file():
                raise ModelError(f"{path} is one half of a tokenizer", f"put {other} beside it")
            return read_pair(path, other, split)
    if path.suffix == ".bin" and not looks_like_pieces(head):
        return read_llama2c(path)
    if looks_like_pieces(head):
        return piece_tokenizer(read_pieces(path))
    raise ModelError(
        f"{path} is no tokenizer that can be read",
        "give tokenizer.json, a SentencePiece .model, tiktoken ranks, GGUF, or encoder.json "
        "beside vocab.bpe",
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
