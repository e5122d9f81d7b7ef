"""Supervised fine-tuning: Tongwen against LLaMA-Factory and TRL, on the same rows.

    python benchmarks/sft.py --data FOLDER [--json] [--quick] [--cases "135m full" …]

FOLDER holds the raw rows (see material.py); what is made of them is kept, and so are the peers,
each in an environment of its own (see environments.py). Conversations of up to 512 tokens with
their natural lengths, about 4,096 tokens a step, random weights, bf16 with fp32 masters, AdamW,
gradients clipped at 1, LoRA of rank 8 on all linear layers.

Of one row at a time and all at once, each peer has what was faster, without gradient checkpointing.
LLaMA-Factory packs rows with a mask (`neat_packing`), as it is shipped one row of 512 tokens at a
time with gradients accumulated, since larger tensors cost it more page faults than they save; and
once more with jemalloc in place of the C library's allocator, with which all rows at once are
faster. TRL packs rows (`bfd`), and takes one at a time too: its attention over packed rows costs
the square of all their tokens. Tongwen is the command `tongwen finetune` on prepared data; that
glibc keeps freed memory is part of it, and of no peer as shipped, so TRL runs once more with that.

The last line, with --json, holds `vs_llamafactory`, `vs_llamafactory_jemalloc`, `vs_trl` and
`vs_trl_kept`: the lowest ratio of our tokens a second to theirs over the cases.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from common import Case, arguments_of, job_of, main, say
from engines import CUTOFF, STEP_TOKENS, Engine, Peer, Tongwen
from environments import interpreter, jemalloc

CASES: Final = ("135m full", "135m lora", "25m full", "25m lora")
ROWS: Final = STEP_TOKENS // CUTOFF
ONE_ROW: Final = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": ROWS}
ALL_ROWS: Final = {"per_device_train_batch_size": ROWS}
LLAMAFACTORY: Final[dict[str, object]] = {
    "neat_packing": True,
    "disable_gradient_checkpointing": True,
}
TRL: Final[dict[str, object]] = {"packing": True, "gradient_checkpointing": False}
KEEP_MEMORY: Final = "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1,metadata_thp:auto"


def engines(method: str, envs: Path) -> list[Engine]:
    """Ours first, then the peers."""
    factory, script = interpreter("llamafactory", envs), "train_llamafactory.py"
    shipped, tuned = LLAMAFACTORY | ONE_ROW, LLAMAFACTORY | ALL_ROWS
    found: list[Engine] = [
        Tongwen("finetune", ["--method", method]),
        Peer("llamafactory", "LLaMA-Factory", factory, script, shipped),
    ]
    if library := jemalloc(envs):
        preload = {"LD_PRELOAD": str(library), "MALLOC_CONF": KEEP_MEMORY}
        title = "LLaMA-Factory with jemalloc"
        found.append(Peer("llamafactory_jemalloc", title, factory, script, tuned, preload))
    else:
        say("there is no jemalloc: LLaMA-Factory runs with the C library's allocator alone")
    trl = Peer("trl", "TRL", interpreter("trl", envs), "train_trl.py", TRL | ONE_ROW)
    return [*found, trl, trl.keeping_memory()]


def cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases that were asked for."""
    found = []
    for name in arguments.cases:
        size, method = name.split()
        job = job_of(arguments, size, "alpaca", method)
        found.append(Case(name, job, engines(method, arguments.envs), arguments.steps))
    return found


if __name__ == "__main__":
    given = arguments_of(__doc__, CASES)
    main("sft", given, cases(given))
