"""Services that are sent the metrics are told what `metrics.jsonl` holds, and no text."""

from __future__ import annotations

import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.train.stand import interrupted_before
from tests.train.test_start import pretraining, steps

from tongwen import pretrain
from tongwen.errors import ConfigError
from tongwen.train.run import read_metrics

Told = dict[tuple[str, int], float]
NOWHERE = {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline"}


def recorded(run: Path) -> Told:
    """The numbers of the metrics, by name and step."""
    return {
        (name, record["step"]): value
        for record in read_metrics(run / "metrics.jsonl")
        for name, value in record.items()
        if name != "step" and isinstance(value, (int, float))
    }


def test_services_are_told_every_number_until_they_break(
    lessons: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    begun: dict[str, Any] = {}

    def init(**settings: Any) -> None:
        print("welcome")
        begun.update(settings)

    fake = types.ModuleType("swanlab")
    fake.init = init  # type: ignore[attr-defined]
    fake.Settings = dict  # type: ignore[attr-defined]
    fake.finish = lambda: print("goodbye")  # type: ignore[attr-defined]
    fake.log = lambda numbers, step: told.append((step, numbers))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swanlab", fake)
    pretrain(pretraining(lessons, tmp_path / "told", steps=2, track=["swanlab"]))
    numbers = {(name, step): value for step, of in told for name, value in of.items()}
    assert numbers == recorded(tmp_path / "told")
    assert len(steps(tmp_path / "told")) == 2
    # The talk of a run has samples in it, and the standard output is that of the command.
    assert begun["settings"] == {"terminal": {"proxy_type": "none"}}
    said = capsys.readouterr()
    assert not said.out
    assert "welcome" in said.err
    assert "goodbye" in said.err

    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    fake.log = broken  # type: ignore[attr-defined]
    pretrain(pretraining(lessons, tmp_path / "broken", steps=2, track=["swanlab"]))
    assert capsys.readouterr().err.count("--track swanlab is told nothing more: no network") == 1
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="needs the package wandb"):
        pretrain(pretraining(lessons, tmp_path / "no", steps=2, track=["wandb"]))


@pytest.mark.slow
@pytest.mark.parametrize("service", ["tensorboard", "mlflow", "wandb", "swanlab"])
def test_a_service_shows_a_resumed_run(
    lessons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """With the service itself, where it is installed; what it has is read back, or searched."""
    package = pytest.importorskip(service)
    monkeypatch.chdir(tmp_path)
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    config = pretraining(lessons, out, eval_every=2, save_every=2, track=[service])
    with interrupted_before(3):
        pretrain(config)
    pretrain(config)
    if service == "tensorboard":
        assert shown_by_tensorboard(out) == pytest.approx(recorded(out), rel=1e-6)
    if service == "mlflow":
        assert [run.info.status for run in package.search_runs(output_format="list")] == [
            "FINISHED",
            "FAILED",
        ]
    kept = [path for path in (out / service).rglob("*") if path.is_file()]
    assert kept or service == "mlflow"
    assert not any(b"held-out loss" in path.read_bytes() for path in kept), "the talk is not sent"


def shown_by_tensorboard(run: Path) -> Told:
    """The scalars that TensorBoard shows; each once, but for an evaluation that was done again."""
    reader = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(run / "tensorboard")).Reload()
    shown: Told = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            assert name != "loss" or (name, event.step) not in shown
            shown[name, event.step] = event.value
    return shown
