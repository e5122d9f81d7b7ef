"""Pretraining: Tongwen against the Hugging Face Trainer, on the same tokens.

    python benchmarks/pretrain.py --data FOLDER [--json] [--quick] [--cases 25m 135m]

English and Chinese documents, about 4,096 tokens a step, random weights, bf16 with fp32 masters,
AdamW, gradients clipped at 1. The Trainer has the tokens in blocks of 512 across the bounds of
documents, as `run_clm.py` of transformers groups them, so it has no padding and no mask, and takes
all at once; Tongwen keeps documents apart. Both learn every token but the first of a row. The
Trainer runs once more with glibc keeping freed memory, as it does in Tongwen. See sft.py for the
flags.

The last line, with --json, holds `vs_hf_trainer` and `vs_hf_trainer_kept`: the lowest ratio of our
tokens a second to theirs over the cases.
"""

from __future__ import annotations

import argparse
from typing import Final

from common import Case, arguments_of, job_of, main
from engines import CUTOFF, STEP_TOKENS, Peer, Tongwen
from environments import interpreter

CASES: Final = ("135m", "25m")
TRAINER: Final = {"per_device_train_batch_size": STEP_TOKENS // CUTOFF}


def cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases that were asked for."""
    python = interpreter("trl", arguments.envs)
    trainer = Peer("hf_trainer", "Hugging Face Trainer", python, "train_hf.py", TRAINER)
    ours = Tongwen("pretrain", ["--context", str(CUTOFF)])
    engines = (ours, trainer, trainer.keeping_memory())
    return [
        Case(size, job_of(arguments, size, "text"), engines, arguments.steps)
        for size in arguments.cases
    ]


if __name__ == "__main__":
    given = arguments_of(__doc__, CASES)
    main("pretrain", given, cases(given))
