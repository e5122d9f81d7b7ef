"""The guard against forgetting: what a model could do before is asked before, during and after.

Its text is any prepared folder with the tokenizer of the run; all of its items are asked, the
trained and the held-out ones, since none is learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.data import TokenStore
from tongwen.data.shards import Split
from tongwen.errors import DataError
from tongwen.tokenizer import load_tokenizer, tokenizer_hash
from tongwen.train.batch import Items
from tongwen.train.heldout import held_out_metrics
from tongwen.train.loop import Exam
from tongwen.train.run import Run, read_metrics

PREFIX = "guard_"
GUARD = PREFIX + "bits_per_byte"
SPLITS: Final = ("train", "held_out")


def guarded(
    exam: Exam | None,
    folders: Sequence[Path],
    tokenizer: PreTrainedTokenizerFast,
    batch_tokens: int,
) -> Exam:
    """An exam that asks the guard's questions, too."""
    items = Items([_open(folder, split, tokenizer) for folder in folders for split in SPLITS])

    def both(model: PreTrainedModel, most: int) -> dict[str, float]:
        asked = {} if exam is None else exam(model, most)
        metrics = held_out_metrics(model, items, tokenizer.all_special_ids, batch_tokens, most)
        return asked | {PREFIX + name: value for name, value in metrics.items()}

    return both


def forgotten(run: Run) -> str:
    """What the guard found from the first to the last time, in words."""
    records = [one for one in read_metrics(run.folder / "metrics.jsonl") if GUARD in one]
    before, after = records[0][GUARD], records[-1][GUARD]
    return (
        f"guard: bits per byte {before:.3f} before, {after:.3f} after ({after / before - 1:+.1%})"
    )


def _open(folder: Path, split: Split, tokenizer: PreTrainedTokenizerFast) -> TokenStore:
    if not (folder / "manifest.json").is_file():
        raise DataError(
            f"--guard {folder} is no prepared folder",
            f"`tongwen data prepare SOURCES --tokenizer MODEL --out {folder}` makes one",
        )
    if tokenizer_hash(load_tokenizer(folder)) != tokenizer_hash(tokenizer):
        raise DataError(
            f"{folder} was prepared with another tokenizer than that of the run",
            "prepare it again with `--tokenizer` and the model of the run",
        )
    return TokenStore.open(folder, split)
