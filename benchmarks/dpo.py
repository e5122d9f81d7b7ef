"""Direct preference optimisation: Tongwen against TRL, on the same pairs.

    python benchmarks/dpo.py --data FOLDER [--json] [--quick] [--cases 25m 135m]

Pairs in English and Chinese, answers of up to 512 tokens with their questions, about 4,096 tokens a
step, random weights, bf16 with fp32 masters, AdamW, gradients clipped at 1. Both compute the
log-probabilities of the reference before they train, and that is not counted. TRL takes one pair at
a time with gradients accumulated: so it pads least. It runs once more with glibc keeping freed
memory, as it does in Tongwen. See sft.py for the flags. The first loss is log 2 whatever a tool
does, so the second on the same pairs is compared.

The last line, with --json, holds `vs_trl` and `vs_trl_kept`: the lowest ratio of our tokens a
second to theirs over the cases.
"""

from __future__ import annotations

import argparse
from typing import Final

from common import Case, arguments_of, job_of, main
from engines import Peer, Tongwen
from environments import interpreter

CASES: Final = ("135m", "25m")
TRL: Final = {
    "precompute_ref_log_probs": True,
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
}
"""A pair has about 490 tokens."""


def cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases that were asked for."""
    trl = Peer("trl", "TRL", interpreter("trl", arguments.envs), "train_dpo.py", TRL)
    engines = (Tongwen("align", ["--objective", "dpo"]), trl, trl.keeping_memory())
    return [
        Case(size, job_of(arguments, size, "pairs"), engines, arguments.steps, compared=2)
        for size in arguments.cases
    ]


if __name__ == "__main__":
    given = arguments_of(__doc__, CASES)
    main("dpo", given, cases(given))
