"""A loss or a gradient that is not finite: it never reaches the weights, and is written down."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tongwen.errors import RunError
from tongwen.files import write_whole
from tongwen.train.batch import Work
from tongwen.train.objective import Loss
from tongwen.train.processes import exchange, leads

FILE = "not-finite.json"


class NotFinite(RunError):
    """A step whose loss or gradient is not finite."""

    def __init__(self, run: Path, work: Work, losses: Sequence[Loss], norm: float) -> None:
        mine = [
            {"items": batch.item_M.tolist(), "loss": float(one.value)}
            for batch, one in zip(work.batches, losses, strict=True)
            if not batch.idle
        ]
        everyone = [part for parts in exchange(mine) for part in parts]
        loss = math.fsum(part["loss"] for part in everyone)
        # A step has one number everywhere: that of the metrics, from 1.
        self.step = work.whole.step + 1
        super().__init__(
            f"the loss of step {self.step} is {loss:.4g} with a gradient norm of {norm:.4g}; the "
            "weights were left as they are",
            f"`tongwen replay {run}` shows which items it comes from; then start again in another "
            "--out, without them or with a lower --lr",
        )
        self._run = run
        self._told: dict[str, Any] = {
            "step": self.step,
            "gradient_norm": f"{norm:.6g}",
            "micro_batches": [{**part, "loss": f"{part['loss']:.6g}"} for part in everyone],
        }

    def write(self) -> None:
        """Write down what happened, into the run folder."""
        if leads():
            write_whole(self._run / FILE, json.dumps(self._told, indent=1) + "\n")


def told_step(run: Path) -> int | None:
    """The step that was not finite, if there was one."""
    path = run / FILE
    return int(json.loads(path.read_text(encoding="utf-8"))["step"]) if path.is_file() else None
