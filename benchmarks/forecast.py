"""Forecast against measured: peak memory and time of real trainings on this machine.

    python benchmarks/forecast.py [--only 25m] [--threads 1] [--json]

Every case is forecast from its settings, then trained for six steps in a process of its own, the
way `tongwen pretrain`, `finetune` and `align` do it, evaluation and checkpoints included; its peak
is the largest resident set that the kernel saw (VmHWM). The models have random weights, which take
the same memory; the texts are generated. An error above 0 is a forecast that was too high.

The last line is JSON: the worst errors both ways, how often `fits` would have been said of a
machine with a byte less than the peak, and every case.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import tongwen
from tongwen.config import DataPrepareConfig, ForecastConfig, Size
from tongwen.data import data_prepare
from tongwen.lessons import Course
from tongwen.models import new_model
from tongwen.models.room import verdict_of
from tongwen.tokenizer import save_tokenizer, train_tokenizer

VOCABULARY: Final[dict[Size, int]] = {"1m": 4096, "5m": 8192, "25m": 32000, "135m": 65024}
STEPS = 6
"""Micro-batches are of many lengths, and what they leave behind in memory grows for a while."""
WINDOW = 1024
LENGTH = 256
"""Longest item."""


@dataclass(frozen=True)
class Case:
    """A training to measure."""

    size: Size
    stage: Literal["pretrain", "finetune", "align"] = "finetune"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What is particular about it."""
        told = [f"{key} {value}" for key, value in self.settings.items()]
        return ", ".join([self.size, self.stage, *told])


def cases() -> list[Case]:
    """What is measured: sizes, methods, precisions, micro-batches, and what saves memory."""
    bf16, fp32 = {"precision": "bf16"}, {"precision": "fp32"}
    tiny, small, large = ({"micro_batch_tokens": tokens} for tokens in (1024, 2048, 4096))
    again, eight = {"checkpointing": True}, {"optimizer": "adamw8bit"}
    lora, qlora = {"method": "lora"}, {"method": "qlora"}
    return [
        Case("1m", "pretrain", bf16 | small),
        Case("1m", "finetune", fp32 | small),
        Case("5m", "pretrain", bf16 | large),
        Case("5m", "pretrain", fp32 | small),
        Case("5m", "finetune", bf16 | lora | large),
        Case("25m", "pretrain", bf16 | small),
        Case("25m", "pretrain", bf16 | large),
        Case("25m", "pretrain", bf16 | large | again),
        Case("25m", "pretrain", fp32 | small),
        Case("25m", "finetune", bf16 | small | eight),
        Case("25m", "finetune", bf16 | small | {"optimizer": "muon"}),
        Case("25m", "finetune", bf16 | lora | small),
        Case("25m", "finetune", bf16 | lora | large),
        Case("25m", "finetune", fp32 | lora | small),
        Case("25m", "finetune", bf16 | lora | small | {"lora_dropout": 0.05}),
        Case("25m", "finetune", bf16 | qlora | large),
        Case("135m", "pretrain", bf16 | tiny),
        Case("135m", "pretrain", bf16 | large),
        Case("135m", "pretrain", bf16 | small | again),
        Case("135m", "pretrain", fp32 | tiny),
        Case("135m", "finetune", bf16 | small),
        Case("135m", "finetune", bf16 | small | eight),
        Case("135m", "finetune", bf16 | lora | small),
        Case("135m", "finetune", bf16 | lora | large),
        Case("135m", "finetune", bf16 | lora | small | {"lora_targets": ["q_proj", "v_proj"]}),
        Case("135m", "finetune", bf16 | qlora | small),
        Case("25m", "align", bf16 | small),
        Case("25m", "align", bf16 | lora | small),
    ]


def make_material(folder: Path) -> None:
    """A tokenizer; `text` of long documents, short conversations `chat`, and `pairs`, prepared."""
    course = Course(0)
    readings = [one.item.to_record() for one in course.readings(4000)]
    exercises = [one.item.to_record() for one in course.exercises(4000)]
    texts = [str(record) for record in readings]
    save_tokenizer(train_tokenizer(iter(texts), 2000), folder / "tokenizer")
    long = [{"text": "\n".join(texts[i : i + 20])} for i in range(0, len(texts), 20)]
    talks: list[Any] = [record["messages"] for record in exercises]
    pairs = [
        {"prompt": a[:1], "chosen": a[1:2], "rejected": b[1:2]}
        for a, b in itertools.pairwise(talks)
        if a[1] != b[1]
    ]
    for name, rows in (("text", long), ("chat", exercises), ("pairs", pairs)):
        source = folder / f"{name}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        source.write_text("".join(lines), encoding="utf-8")
        data_prepare(
            DataPrepareConfig(
                sources=[source],
                out=folder / name,
                tokenizer=folder / "tokenizer",
                max_length=LENGTH,
                hold_out=0.005,
            )
        )


def make_model(folder: Path, size: Size) -> None:
    """A model folder of random weights, with the tokenizer of the data."""
    if not folder.exists():
        model = new_model(size, VOCABULARY[size], WINDOW, 0)
        model.bfloat16().save_pretrained(folder)
        for path in (folder.parent / "tokenizer").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())


def settings_of(case: Case, folder: Path, threads: int) -> dict[str, Any]:
    """The settings that training and forecast share."""
    data = folder / {"pretrain": "text", "finetune": "chat", "align": "pairs"}[case.stage]
    model = folder / case.size
    # Two micro-batches a step, so that gradients are summed; evaluation at both ends.
    batch = 2 * case.settings["micro_batch_tokens"]
    shared = {"model": str(model), "data": [str(data)], "steps": STEPS, "threads": threads}
    return {"batch_tokens": batch, **shared, **case.settings}


def train(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """Run the training in a process of its own; its peak in bytes, and seconds of a step."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        settings = settings_of(case, folder, threads) | {"out": f"{out}/run", "eval_every": 100}
        code = CHILD.format(stage=case.stage, settings=settings)
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        if done.returncode:
            raise SystemExit(f"{case.name}: {done.stderr[-2000:]}")
        measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return measured


CHILD = """
import json, re, pathlib, tongwen
config = getattr(tongwen, "{stage}".capitalize() + "Config")(**{settings!r})
result = getattr(tongwen, "{stage}")(config)
status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
print(json.dumps({{"peak": peak, "seconds": result.seconds / result.steps}}))
"""


def measure(case: Case, folder: Path, threads: int) -> dict[str, Any]:
    """A case forecast and measured."""
    make_model(folder / case.size, case.size)
    settings = settings_of(case, folder, threads)
    begin = time.perf_counter()
    told = tongwen.forecast(ForecastConfig(stage=case.stage, **settings))
    spent = time.perf_counter() - begin
    real = train(case, folder, threads)
    return {
        "case": case.name,
        "phase": told.phase,
        "forecast_mb": round(told.peak_bytes / 1e6),
        "measured_mb": round(real["peak"] / 1e6),
        "error": round(told.peak_bytes / real["peak"] - 1, 4),
        "seconds_forecast": round(told.seconds_per_step, 3),
        "seconds_measured": round(real["seconds"], 3),
        "wrong_fit": verdict_of(told.peak_bytes, told.margin, real["peak"] - 1) == "fits",
        "spent": round(spent, 2),
    }


def main() -> None:
    """Measure the cases and print table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the JSON line alone")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_material(folder)
        for case in cases():
            if options.only in case.name:
                rows.append(row := measure(case, folder, options.threads))
                if not options.json:
                    print(line(row), flush=True)
    errors = [row["error"] for row in rows]
    summary = {
        "cases": len(rows),
        "within_10_percent": sum(abs(error) <= 0.10 for error in errors),
        "worst_below": min(errors),
        "worst_above": max(errors),
        "wrong_fits": sum(row["wrong_fit"] for row in rows),
        "rows": rows,
    }
    print(json.dumps(summary))


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    return (
        f"{row['case']:<78} {row['phase']:<9} {row['forecast_mb']:>6,} {row['measured_mb']:>6,} MB "
        f"{row['error']:>+7.1%}   {row['seconds_forecast']:>7.2f} {row['seconds_measured']:>7.2f} s"
    )


if __name__ == "__main__":
    main()
