"""What a run came to: its passport, and the result that a command returns."""

from __future__ import annotations

import json
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

import tongwen
from tongwen.config import TrainConfig
from tongwen.files import sha256_file
from tongwen.models.device import card_name, device_of, peak_memory
from tongwen.models.machine import compute_dtype, matrix_peak
from tongwen.progress import duration
from tongwen.train.checkpoint import Position
from tongwen.train.heldout import is_held_out, told
from tongwen.train.processes import world
from tongwen.train.run import Inputs, Run, read_metrics
from tongwen.train.start import Steps


@dataclass(frozen=True)
class TrainResult:
    """What a run came to, together with the run that it goes on from."""

    out: Path
    model: Path
    report: Path
    steps: int
    tokens: int
    trained_tokens: int
    seconds: float
    flops: float
    tokens_per_second: float
    mfu: float
    loss: float
    held_out: dict[str, float]

    def __str__(self) -> str:
        lines = [
            f"{self.steps} steps, {self.tokens:,} tokens in {duration(self.seconds)}",
            f"{self.tokens_per_second:,.0f} tokens/s, MFU {self.mfu:.0%}",
            f"loss {self.loss:z.3f} over the last steps",
        ]
        if self.held_out:
            lines.append(told(self.held_out))
        return "\n".join([*lines, f"model   {self.model}", f"report  {self.report}"])


def passport(
    stage: str, run: Run, config: TrainConfig, inputs: Inputs, at: Position, weights_file: str
) -> dict[str, Any]:
    """What went in and what came out."""
    metrics = read_metrics(run.folder / "metrics.jsonl")
    steps = [record for record in metrics if "loss" in record]
    held_out: dict[str, float] = next((r for r in reversed(metrics) if is_held_out(r)), {})
    tail = steps[-100:]
    device = device_of(config.device)
    peak = matrix_peak(compute_dtype(config.precision, device), device) * world()
    # The unit of ru_maxrss is a KiB on Linux and a byte on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "stage": stage,
        "inputs": inputs,
        "inexact": run.inexact(),
        "result": {
            **asdict(at),
            "tokens_per_second": at.tokens / at.seconds,
            "mfu": at.flops / at.seconds / peak,
            "loss": sum(record["loss"] for record in tail) / len(tail),
            "held_out": {key: value for key, value in held_out.items() if key != "step"},
        },
        "forecast": Steps.read(run.folder).forecast,
        "final_sha256": sha256_file(run.final / weights_file),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "card": None if device.type == "cpu" else card_name(device),
            "processes": world(),
            "threads": config.threads,
            "peak_rss_of_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            "peak_card_of_process_bytes": None if device.type == "cpu" else peak_memory(device),
        },
        "versions": {
            "tongwen": tongwen.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def result_of(run: Run) -> TrainResult:
    result = json.loads((run.folder / "passport.json").read_text(encoding="utf-8"))["result"]
    result["steps"] = result.pop("step")
    return TrainResult(out=run.folder, model=run.final, report=run.folder / "report.html", **result)
