"""QLoRA against LoRA, both Tongwen's: speed, peak memory, and the memory of the weights.

    python benchmarks/qlora.py --data FOLDER [--json] [--quick] [--cases 25m 135m]

The work of sft.py. The weights are counted as they lie in memory while they are trained: those of
the layers that are quantised, and all of them, with the embeddings, which are not.

The last line, with --json, holds `vs_lora`, the lowest ratio of QLoRA's tokens a second to those of
LoRA over the cases, and `weights_vs_lora` and `layers_vs_lora`, the highest ratios of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from common import Case, arguments_of, job_of, main
from engines import Tongwen

CASES: Final = ("135m", "25m")
METHODS: Final = ("qlora", "lora")
WEIGHTS: Final = """
import json, sys, torch
from pathlib import Path
from tongwen.config import FinetuneConfig
from tongwen.models.adapter import adapt
from tongwen.models.loading import load_base
from tongwen.train.masters import Masters

model, method = Path(sys.argv[1]), sys.argv[2]
config = FinetuneConfig(model=model, data=[model], out=model, method=method)
base = load_base(model, config)
adapt(base, config, 0)
Masters(base, torch.bfloat16)
sizes = {"layers": 0, "weights": 0}
tied = set()
for name, tensor in [*base.named_parameters(), *base.named_buffers()]:
    if "lora_" not in name and tensor.data_ptr() not in tied:
        tied.add(tensor.data_ptr())
        sizes["weights"] += tensor.nbytes
        sizes["layers"] += tensor.nbytes * ("proj" in name)
print(json.dumps(sizes))
"""


def cases(arguments: argparse.Namespace) -> list[Case]:
    """The cases that were asked for; a quantised model has another loss."""
    engines = [
        Tongwen("finetune", ["--method", method], name=method, title=f"Tongwen, {method}")
        for method in METHODS
    ]
    return [
        Case(size, job_of(arguments, size, "alpaca", "lora"), engines, arguments.steps, compared=0)
        for size in arguments.cases
    ]


def weights(model: Path) -> dict[str, float]:
    """The memory of the weights of QLoRA as a share of that of LoRA."""
    quantised, plain = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", WEIGHTS, str(model), method],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        )
        for method in METHODS
    )
    return {f"{name}_vs_lora": round(quantised[name] / plain[name], 3) for name in plain}


def with_weights(result: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """The result with the memory of the weights, in every case and at its highest."""
    for case in result["cases"]:
        case.update(weights(arguments.material / case["case"] / "model"))
    highest = {
        name: max(case[name] for case in result["cases"])
        for name in ("weights_vs_lora", "layers_vs_lora")
    }
    return {**result, **highest}


if __name__ == "__main__":
    given = arguments_of(__doc__, CASES)
    main("qlora", given, cases(given), with_weights)
