"""What the trainers of the peers have in common: every step counted and timed.

All of them are children of `transformers.Trainer`. A step is timed from before its first forward
pass to after its update; fetching its rows is not counted. What each forward pass is given is
counted on its way: the tokens that are no padding, and those that carry loss.
"""

from __future__ import annotations

import json
import time
from typing import Any

from transformers import Trainer, TrainerCallback

IGNORED = -100


def arguments(job: dict[str, Any]) -> dict[str, Any]:
    """The arguments that every trainer is given, and those of the job."""
    return {
        "output_dir": job["out"],
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": job["lr"],
        "lr_scheduler_type": "constant",
        "max_steps": job["steps"],
        "bf16": job["precision"] == "bf16",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        **job["settings"],
    }


class Steps(TrainerCallback):
    """The steps of a run: seconds, those of the processor, tokens, trained tokens, loss."""

    def __init__(self, pad_token_id: int | None) -> None:
        self.done: list[dict[str, float]] = []
        self._pad = pad_token_id
        self._began = (0.0, 0.0)

    def watch(self, trainer_class: type[Trainer]) -> None:
        """Count what every forward pass of a trainer is given."""
        plain = trainer_class.training_step

        def counted(trainer: Any, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
            self._count(inputs)
            return plain(trainer, model, inputs, *rest)

        trainer_class.training_step = counted

    def _count(self, inputs: dict[str, Any]) -> None:
        ids, mask = inputs["input_ids"], inputs.get("attention_mask")
        if mask is not None and mask.shape == ids.shape:
            real = mask != 0
        else:  # a mask of four dimensions, or rows packed without padding
            real = ids != self._pad if mask is not None else ids == ids
        if "labels" in inputs:
            trained = inputs["labels"][:, 1:] != IGNORED
        else:
            trained = inputs["completion_mask"][:, 1:] != 0
        step = self.done[-1]
        step["tokens"] += int(real.sum())
        step["trained"] += int(trained.sum())

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.done.append({"seconds": 0.0, "tokens": 0, "trained": 0})
        self._began = (time.perf_counter(), time.process_time())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        seconds, processor = self._began
        self.done[-1]["seconds"] = time.perf_counter() - seconds
        self.done[-1]["processor"] = time.process_time() - processor

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        if logs and "loss" in logs:
            self.done[-1]["loss"] = logs["loss"]

    def report(self, version: str) -> None:
        """Print the result for the process that asked."""
        print("RESULT " + json.dumps({"version": version, "steps": self.done}))
