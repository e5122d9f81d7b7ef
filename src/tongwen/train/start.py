"""Where a run starts: anew, with the weights of another, or where another one stands.

    resume       the same command again: the run's own newest checkpoint, to the byte
    warm start   the weights of a model, an adapter or a run; optimiser, schedule and data anew
    append       a copy of another run's newest checkpoint: weights, optimiser and schedule go on
                 where they are, with other data from their beginning

An appended run keeps the learning rate consistent as Chinese-Vicuna's incremental training does:
its schedule has as many steps as that of the run it goes on from, or as the new data ask for by
themselves if these are more. The new data are repeated until then. The other run is only read.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tongwen.config import TrainConfig
from tongwen.errors import RunError
from tongwen.files import new_folder, write_whole
from tongwen.models import resolve_model
from tongwen.tokenizer import load_tokenizer, tokenizer_hash
from tongwen.train.checkpoint import newest_valid, read_weights, step_of
from tongwen.train.folders import Weights
from tongwen.train.foresight import Foresight
from tongwen.train.loop import Learner
from tongwen.train.masters import Masters
from tongwen.train.run import Bystander, Run

PLAN = "plan.json"


@dataclass(frozen=True)
class Start:
    """Where the data of a run begin in its schedule, and how long that is at least."""

    first: int = 0
    """Steps that were done with other data."""
    least: int = 0
    """Steps of the schedule that it goes on with."""
    place: Path | None = None
    """The checkpoint of another run that it goes on from."""


@dataclass(frozen=True)
class Steps:
    """The steps of a run, as `plan.json` keeps them for whoever goes on from it."""

    first: int
    total: int
    forecast: dict[str, Any] | None = None
    """What the run was thought to take, where that could be counted."""

    def write(self, folder: Path) -> None:
        """Keep them in the run folder."""
        write_whole(folder / PLAN, json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Steps:
        """What a run folder says."""
        try:
            return cls(**json.loads((folder / PLAN).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise RunError(
                f"{folder} does not say how many steps its run has: {PLAN} is not there",
                "give a run folder of `tongwen pretrain`, `finetune` or `align`",
            ) from None


def start_of(config: TrainConfig) -> Start:
    """How a run starts; one that is under way goes on as it began."""
    if config.append is None:
        return Start()
    if (config.out / PLAN).exists():
        steps = Steps.read(config.out)
        return Start(steps.first, steps.total)
    before = Steps.read(config.append)
    place, _ = newest_valid(config.append / "checkpoints")
    if place is None:
        raise RunError(
            f"{config.append} has no checkpoint that is whole",
            "give a run folder with checkpoints, or begin with `--warm-start`",
        )
    return Start(step_of(place), before.total, place)


def told_start(start: Start, at: int, config: TrainConfig) -> str:
    """Where a run starts, in words."""
    if at > start.first:
        return f"goes on from its own step {at}"
    if config.append is not None:
        return f"goes on where {config.append} stands, at step {start.first}, with other data"
    if config.warm_start is not None:
        return f"begins with the weights of {config.warm_start}"
    return "begins anew"


def check_start(start: Start, steps: int, config: TrainConfig) -> None:
    """Refuse to go on where nothing is left to do."""
    if start.first >= steps:
        raise RunError(
            f"{config.append} stands at step {start.first} of {steps}: there is nothing left to do",
            f"ask for more than {start.first} `--steps`, or begin with `--warm-start`",
        )


def begin(
    start: Start,
    steps: int,
    config: TrainConfig,
    run: Run,
    learner: Learner,
    foresight: Foresight | None,
) -> None:
    """Put the learner where the run starts; a checkpoint of the run itself comes before all."""
    owns = not isinstance(run, Bystander)
    if start.place is not None and owns:
        _copy_checkpoint(start.place, run, learner)
    if config.warm_start is not None:
        _warm_start(config.warm_start, learner)
    if owns:
        forecast = None if foresight is None else asdict(foresight)
        Steps(start.first, steps, forecast).write(run.folder)


def _copy_checkpoint(place: Path, run: Run, learner: Learner) -> None:
    """Make the checkpoint that an appended run goes on from its own first one."""
    _fitting_weights(place, learner)
    own = run.checkpoints / place.name
    # A process that was killed right behind the copying has left it whole.
    if not own.exists():
        with new_folder(own) as folder:
            shutil.copytree(place, folder, dirs_exist_ok=True)


def _warm_start(folder: Path, learner: Learner) -> None:
    """Begin with the weights of a model, adapter or run folder."""
    place = resolve_model(folder)
    learner.optimizer.masters.load_weights(_fitting_weights(place, learner))


def _fitting_weights(place: Path, learner: Learner) -> Weights:
    """The weights of a model, an adapter or a checkpoint, if they are of this very learner."""
    if (place / "tokenizer.json").is_file():
        _check_tokenizer(place, learner)
    masters = learner.optimizer.masters
    given = masters.own(read_weights(place, learner.form))
    _check_same_weights(given, masters, place)
    return given


def _check_tokenizer(place: Path, learner: Learner) -> None:
    if tokenizer_hash(load_tokenizer(place)) != tokenizer_hash(learner.tokenizer):
        raise RunError(
            f"{place} has another tokenizer than the data of this run",
            f"prepare the data again with `--tokenizer {place}`",
        )


def _check_same_weights(given: Weights, masters: Masters, place: Path) -> None:
    """Refuse weights of another shape than those that learn, or unlike those that do not."""
    learning, frozen = masters.weights(), masters.frozen
    for name in sorted(given.keys() | learning.keys()):
        ours, theirs = learning.get(name), given.get(name)
        if theirs is not None and name in frozen:
            _check_frozen(name, theirs, frozen[name], place)
            continue
        if ours is None or theirs is None or ours.shape != theirs.shape:
            there = "nothing" if theirs is None else f"weights of shape {tuple(theirs.shape)}"
            here = "nothing" if ours is None else f"{tuple(ours.shape)}"
            raise RunError(
                f"{place} holds {there} for {name}, and {here} is to learn",
                "give a run of the same model and the same method",
            )


def _check_frozen(name: str, theirs: Tensor, ours: Tensor, place: Path) -> None:
    if not theirs.to(ours).equal(ours):
        raise RunError(
            f"{place} holds other weights than --model for {name}, which does not learn",
            "give the --model that it was trained from",
        )
