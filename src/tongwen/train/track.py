"""Metrics for the services that people watch their runs in.

They are sent what `metrics.jsonl` holds, never text; none is asked for by default, and none is
needed: the run folder has everything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from tongwen.config import Tracker, TrainConfig
from tongwen.errors import ConfigError
from tongwen.progress import say
from tongwen.train.run import Run

Log = Callable[[dict[str, float], int], None]
PROJECT = "tongwen"


class Trackers(ExitStack):
    """The services of a run, told of every record while the `with` block lasts."""

    def __init__(self, config: TrainConfig, run: Run) -> None:
        super().__init__()
        settings = config.model_dump(mode="json", exclude_none=True)
        title = config.track_name or run.folder.resolve().name
        self._logs = {
            name: self._opened(name, run.folder, title, settings) for name in config.track or ()
        }
        run.listeners.append(self._record)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            with redirect_stdout(sys.stderr):
                return super().__exit__(kind, error, trace)
        except Exception as late:  # the services' own errors have no common class
            say(f"--track was not ended well: {late}; the run folder has all metrics")
            return False

    def _opened(self, name: Tracker, folder: Path, title: str, settings: dict[str, Any]) -> Log:
        try:
            # What the services say is no answer of ours.
            with redirect_stdout(sys.stderr):
                return OPEN[name](self, folder, title, settings)
        except ConfigError:
            raise
        except Exception as error:  # the services' own errors have no common class
            raise ConfigError(
                f"--track {name} cannot begin: {error}",
                "mend it, or leave it out: the run folder has all metrics",
            ) from error

    def _record(self, values: dict[str, Any]) -> None:
        """Send the numbers of one record."""
        numbers = {
            name: value
            for name, value in values.items()
            if name != "step" and isinstance(value, (int, float))
        }
        if numbers:
            for name, log in list(self._logs.items()):
                try:
                    log(numbers, values["step"])
                except Exception as error:  # the services' own errors have no common class
                    del self._logs[name]
                    say(f"--track {name} is told nothing more: {error}; the run goes on")


def _tensorboard(stack: ExitStack, folder: Path, _: str, settings: dict[str, Any]) -> Log:
    _package("tensorboard")
    new_writer = import_module("torch.utils.tensorboard").SummaryWriter
    writer: Any = None

    def log(numbers: dict[str, float], step: int) -> None:
        nonlocal writer
        if writer is None:
            # What a stopped run did behind its last checkpoint is done again, and shown once. The
            # first that is heard of it may be an evaluation, which is of the checkpoint itself.
            again = step if "loss" in numbers else step + 1
            writer = new_writer(str(folder / "tensorboard"), purge_step=again)
            stack.callback(writer.close)
            text = "\n".join(f"    {key} = {one}" for key, one in settings.items())
            writer.add_text("settings", text)
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return log


def _wandb(stack: ExitStack, folder: Path, title: str, settings: dict[str, Any]) -> Log:
    wandb = _package("wandb")
    run = wandb.init(
        project=PROJECT,
        name=title,
        dir=str(folder),
        config=settings,
        # What is said in the terminal has samples in it.
        settings=wandb.Settings(console="off"),
    )
    stack.callback(run.finish)
    return lambda numbers, step: run.log(numbers, step=step)


def _swanlab(stack: ExitStack, folder: Path, title: str, settings: dict[str, Any]) -> Log:
    swanlab = _package("swanlab")
    swanlab.init(
        project=PROJECT,
        name=title,
        log_dir=str(folder / "swanlab"),
        config=settings,
        # What is said in the terminal has samples in it.
        settings=swanlab.Settings(terminal={"proxy_type": "none"}),
    )
    stack.callback(swanlab.finish)
    return lambda numbers, step: swanlab.log(numbers, step=step)


def _mlflow(stack: ExitStack, _: Path, title: str, settings: dict[str, Any]) -> Log:
    mlflow = _package("mlflow")
    mlflow.set_experiment(PROJECT)
    # Left by an error, it counts as failed.
    stack.enter_context(mlflow.start_run(run_name=title))
    mlflow.log_params({key: str(value)[:500] for key, value in settings.items()})
    return lambda numbers, step: mlflow.log_metrics(numbers, step=step)


OPEN: dict[Tracker, Callable[[ExitStack, Path, str, dict[str, Any]], Log]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "swanlab": _swanlab,
    "mlflow": _mlflow,
}


def _package(name: Tracker) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(
            f"--track {name} needs the package {name}, which is not installed",
            f"`pip install {name}`, or leave it out: the run folder has all metrics",
        ) from None
