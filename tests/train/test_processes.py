"""Several processes do what one does: the same steps on the same samples, and they end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file
from tests.train.together import (
    HALF,
    LORA,
    METHODS,
    SCARCE,
    SHARDABLE,
    STEPS,
    every_method,
    finetune_config,
    place_of,
    pretrain_config,
)
from torch import Tensor

from tongwen import finetune, pretrain
from tongwen.errors import ConfigError, RunError
from tongwen.files import sha256_file
from tongwen.models import load_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train.checkpoint import load_checkpoint, save_checkpoint
from tongwen.train.folders import ModelFolder
from tongwen.train.launch import environment_of, judge, new_store
from tongwen.train.optim import new_optimizer
from tongwen.train.plan import Plan
from tongwen.train.processes import FAILURE, LOST, Store
from tongwen.train.run import read_metrics
from tongwen.train.shards import Shards

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def together(world: int, *places: Path) -> None:
    """Run `together.py` in so many processes."""
    store = new_store()
    words = [sys.executable, "-m", "tests.train.together", *map(str, places)]
    children = [
        subprocess.Popen(
            words,
            env={**environment_of(rank, world, store.port), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for rank in range(world)
    ]
    said = [child.communicate(timeout=600)[1] for child in children]
    assert [child.returncode for child in children] == [0] * world, "".join(said)


@pytest.fixture(scope="module")
def runs(lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs that `together` makes in two processes, and what one process makes of the same."""
    out = tmp_path_factory.mktemp("runs")
    together(2, lessons, out)
    pretrain(pretrain_config(lessons, out / "alone"))
    pretrain(pretrain_config(lessons, out / "scarce-alone", **SCARCE))
    finetune(finetune_config(lessons, out / "lora-alone", out / "divided", **LORA))
    return out


def of_steps(run: Path, key: str) -> list[float]:
    return [record[key] for record in read_metrics(run / "metrics.jsonl") if "loss" in record]


def final(run: Path) -> str:
    return sha256_file(run / "final" / "model.safetensors")


def together_from_shards(place: Path, group: str) -> dict[str, Tensor]:
    """What shards hold, put together by hand."""
    parts: dict[str, list[tuple[int, Tensor]]] = {}
    for path in place.glob("shard-*.safetensors"):
        with safe_open(path, "pt") as file:
            rows = json.loads(file.metadata()["rows"])
            for key in file.keys():  # noqa: SIM118
                first, _ = rows.get(key, (0, 0))
                parts.setdefault(key, []).append((first, file.get_tensor(key)))
    return {
        key.removeprefix(f"{group}/"): (
            ones[0][1]
            if ones[0][1].ndim == 0
            else torch.cat([x for _, x in sorted(ones, key=lambda one: one[0])])
        )
        for key, ones in parts.items()
        if key.startswith(f"{group}/")
    }


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("divided", "alone"),
        ("sharded", "alone"),
        ("gathered", "alone"),
        ("scattered", "alone"),
        ("scarce", "scarce-alone"),
        ("scarce-sharded", "scarce-alone"),
    ],
)
def test_two_processes_learn_as_one_does(runs: Path, ours: str, theirs: str) -> None:
    for key in ("loss", "grad_norm"):
        assert of_steps(runs / ours, key) == pytest.approx(of_steps(runs / theirs, key), rel=1e-6)
    for key in ("tokens", "trained_tokens", "flops", "lr"):
        assert of_steps(runs / ours, key) == of_steps(runs / theirs, key)
    held_out = [
        [
            record["held_out_loss"]
            for record in read_metrics(runs / name / "metrics.jsonl")
            if "held_out_loss" in record
        ]
        for name in (ours, theirs)
    ]
    assert len(held_out[0]) == 2
    assert held_out[0] == pytest.approx(held_out[1], rel=1e-6)
    model = load_model(runs / ours, torch.float32)
    before = dict(load_model(runs / theirs, torch.float32).named_parameters())
    for name, weight in model.named_parameters():
        assert (weight - before[name]).abs().max() < 1e-3


def test_some_steps_leave_a_process_without_work(runs: Path) -> None:
    tokens = of_steps(runs / "scarce", "tokens")
    assert min(tokens) < 200 < max(of_steps(runs / "divided", "tokens"))


@pytest.mark.parametrize("run", ["divided", "sharded"])
def test_processes_resume_to_the_bit(runs: Path, run: str) -> None:
    assert final(runs / f"{run}-again") == final(runs / run)
    assert of_steps(runs / f"{run}-again", "loss") == of_steps(runs / run, "loss")


def test_lora_learns_the_same_sharded(runs: Path) -> None:
    alone = of_steps(runs / "lora-alone", "loss")
    for name in ("lora", "lora-sharded"):
        assert of_steps(runs / name, "loss") == pytest.approx(alone, rel=2e-3)
        assert (runs / name / "final" / "adapter_config.json").is_file()
    keys = [
        load_file(runs / name / "final" / "adapter_model.safetensors").keys()
        for name in ("lora-alone", "lora-sharded")
    ]
    assert keys[0] == keys[1]


def test_a_run_in_processes_leaves_one_folder(runs: Path) -> None:
    environment = json.loads((runs / "sharded" / "environment.json").read_text(encoding="utf-8"))
    assert environment["environment"]["processes"] == "2, sharded"
    steps = [
        record["step"]
        for record in read_metrics(runs / "sharded" / "metrics.jsonl")
        if "loss" in record
    ]
    assert steps == list(range(1, STEPS + 1))
    names = {path.name for path in place_of(runs / "sharded", STEPS).iterdir()}
    shards = {f"shard-0000{rank}-of-00002.safetensors" for rank in range(2)}
    assert names == shards | {"checkpoint.json"}
    # Each process holds about half.
    sizes = [(place_of(runs / "sharded", STEPS) / name).stat().st_size for name in sorted(shards)]
    assert sizes[1] > 0.9 * sizes[0]


def test_shards_are_read_whole_by_one_process(lessons: Path, runs: Path, tmp_path: Path) -> None:
    place = place_of(runs / "sharded", HALF)
    model = load_model(runs / "alone", torch.float32)
    config = pretrain_config(lessons, tmp_path)
    optimizer = new_optimizer(model, config, torch.float32, STEPS)
    form = ModelFolder(model, load_tokenizer(lessons / "text"))
    at = load_checkpoint(place, optimizer, form)
    assert same(optimizer.masters.weights(), together_from_shards(place, "weights"))
    assert same(optimizer.state(), together_from_shards(place, "state"))
    saved = save_checkpoint(tmp_path, at, optimizer, form)
    assert same(load_file(saved / "model.safetensors"), together_from_shards(place, "weights"))
    assert same(load_file(saved / "optimizer.safetensors"), together_from_shards(place, "state"))


def test_a_whole_checkpoint_is_read_in_rows(runs: Path) -> None:
    whole, rows = place_of(runs / "divided", HALF), place_of(runs / "reloaded", HALF)
    assert same(load_file(whole / "model.safetensors"), together_from_shards(rows, "weights"))
    assert same(load_file(whole / "optimizer.safetensors"), together_from_shards(rows, "state"))


def test_any_rows_are_read_from_shards(runs: Path) -> None:
    shards = Shards(place_of(runs / "sharded", HALF), "weights")
    for name in shards:
        whole, total = shards[name], shards.total(name)
        for begin, end in (
            (0, 0),
            (0, 1),
            (total // 3, total // 2 + 2),
            (total - 1, total),
            (total, total),
        ):
            assert torch.equal(shards.rows(name, begin, end), whole[begin:end])


def test_another_number_of_processes_is_told(lessons: Path, runs: Path) -> None:
    (runs / "divided" / "passport.json").rename(runs / "divided" / "kept.json")
    try:
        with pytest.raises(RunError, match=r"processes was 2, is now 1"):
            pretrain(pretrain_config(lessons, runs / "divided"))
    finally:
        (runs / "divided" / "kept.json").rename(runs / "divided" / "passport.json")


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_same_samples_in_the_same_order(world: int) -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 200)
    plan = Plan(lengths, 500, 120, 0, processes=world)
    alone = Plan(lengths, 500, 120, 0)
    for step in range(plan.steps_per_epoch):
        parts = plan.step(step)
        assert len(parts) % world == 0
        assert np.array_equal(np.concatenate(parts), np.concatenate(alone.step(step)))


class Launched:
    """`tongwen pretrain --nproc 2`, and the processes that it starts."""

    def __init__(self, lessons: Path, out: Path, settings: Path) -> None:
        self.out = out
        settings.write_text(
            pretrain_config(lessons, out, nproc=2, save_every=1).toml(), encoding="utf-8"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tongwen", "pretrain", "--config", str(settings)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text(encoding="utf-8").split()]

    def saved(self) -> None:
        """Wait for the first checkpoint."""
        deadline = time.monotonic() + 120
        while not list(self.out.glob("checkpoints/step-*")):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


def test_sigterm_ends_all_after_the_same_step(lessons: Path, runs: Path, tmp_path: Path) -> None:
    launched = Launched(lessons, tmp_path / "run", tmp_path / "settings.toml")
    launched.saved()
    launched.process.send_signal(signal.SIGTERM)
    code, said = launched.end()
    # On a fast machine the run may have ended before the signal came.
    if code:
        assert code == 143
        assert said.count("stopped at step") == 1
        assert "error" not in said
    pretrain(pretrain_config(lessons, tmp_path / "run", nproc=2))
    assert final(tmp_path / "run") == final(runs / "divided")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_is_killed_ends_the_run_with_one_line(lessons: Path, tmp_path: Path) -> None:
    launched = Launched(lessons, tmp_path / "run", tmp_path / "settings.toml")
    launched.saved()
    children = launched.children()
    if len(children) == 2:
        os.kill(children[1], signal.SIGKILL)
    code, said = launched.end()
    if code:
        assert code == 2
        assert said.count("error: ") == 1
        assert "error: process 1 of 2 was ended by SIGKILL" in said


@pytest.mark.slow
def test_the_error_of_any_process_is_told_once(lessons: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    config = finetune_config(lessons, tmp_path / "run", tmp_path / "nowhere", nproc=2)
    settings.write_text(config.toml(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tongwen", "finetune", "--config", str(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]
    assert "no model at" in done.stderr


@pytest.fixture
def store() -> Store:
    return new_store()


@pytest.mark.parametrize(
    ("codes", "left", "raised"),
    [
        ([0, 0], None, None),
        ([143, 143], None, SystemExit),
        ([130, 130], None, KeyboardInterrupt),
        ([-15, -15], None, SystemExit),
        ([2, 2], ["ConfigError", "wrong", "mend"], ConfigError),
        ([2, -9], ["RunError", LOST, None], RunError),
        ([-9, -9], None, RunError),
        ([2, 2], ["OSError", "no such disk", None], RunError),
        ([1, 2], [None, "a mistake of ours", None], SystemExit),
    ],
)
def test_how_a_run_in_processes_ends(
    store: Store,
    codes: list[int],
    left: Sequence[Any] | None,
    raised: type[BaseException] | None,
) -> None:
    if left is not None:
        store.set(f"{FAILURE}/text", json.dumps(left))
    if raised is None:
        judge(codes, store)
        return
    with pytest.raises(raised) as caught:
        judge(codes, store)
    if -9 in codes:
        assert "was ended by SIGKILL" in str(caught.value)
    elif left is not None and left[0] is not None:
        assert str(caught.value) == left[1]


def test_what_cannot_be_divided_is_refused(lessons: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="offload keeps the shares of shard full"):
        pretrain_config(lessons, tmp_path, offload=True)
    with pytest.raises(ValidationError, match="shard full divides every weight by rows"):
        pretrain_config(lessons, tmp_path, shard="full", optimizer="muon")


@pytest.mark.parametrize("script", ["hosts.sh", "slurm.sbatch"])
def test_deployment_scripts_are_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(DEPLOY / script)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_cloud_task_is_what_skypilot_reads() -> None:
    task = yaml.safe_load((DEPLOY / "skypilot.yaml").read_text(encoding="utf-8"))
    assert task["resources"]["use_spot"] is True
    assert task["file_mounts"]["/bucket"]["mode"] == "MOUNT_CACHED"
    done = subprocess.run(["bash", "-n"], input=task["run"].encode(), check=False)
    assert done.returncode == 0


def two_nodes(lessons: Path, folder: Path, out: Path, changes: dict[str, Any]) -> Any:
    """`deploy/hosts.sh` over two names of this machine, with a shell in place of ssh."""
    folder.mkdir()
    shell = folder / "ssh"
    shell.write_text('#!/bin/bash\nshift\nexec bash -c "$*"\n', encoding="utf-8")
    shell.chmod(0o755)
    hosts = folder / "hosts.txt"
    hosts.write_text("# two of them\nlocalhost\n127.0.0.1\n", encoding="utf-8")
    settings = folder / "settings.toml"
    settings.write_text(pretrain_config(lessons, out, **changes).toml(), encoding="utf-8")
    port = new_store().port
    return subprocess.Popen(
        [str(DEPLOY / "hosts.sh"), str(hosts), "1", "pretrain", "--config", str(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "SSH": str(shell), "PORT": str(port)},
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.soak
def test_two_machines_learn_as_two_processes_do(lessons: Path, runs: Path, tmp_path: Path) -> None:
    process = two_nodes(lessons, tmp_path / "nodes", tmp_path / "run", {})
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert final(tmp_path / "run") == final(runs / "divided")


@pytest.mark.soak
@pytest.mark.parametrize("shard", ["none", "full"])
def test_preemption_of_a_machine_loses_nothing(lessons: Path, tmp_path: Path, shard: str) -> None:
    changes = {"shard": shard, "steps": 60, "save_every": 1000, "eval_every": 1000}
    out = tmp_path / "run"
    process = two_nodes(lessons, tmp_path / "nodes", out, changes)
    deadline = time.monotonic() + 120
    while not (out / "metrics.jsonl").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert "the same command goes on from here" in said
    pretrain(pretrain_config(lessons, out, nproc=2, **changes))
    pretrain(pretrain_config(lessons, tmp_path / "whole", nproc=2, **changes))
    assert final(out) == final(tmp_path / "whole")


@pytest.mark.soak
@pytest.mark.parametrize("shard", ["none", "full"])
def test_a_hundred_steps_in_one_two_and_four_processes(
    lessons: Path, tmp_path: Path, shard: str
) -> None:
    long = {"steps": 100, "eval_every": 100, "lr": 1e-3}
    pretrain(pretrain_config(lessons, tmp_path / "1", **long))
    for nproc in (2, 4):
        out = tmp_path / str(nproc)
        pretrain(pretrain_config(lessons, out, nproc=nproc, shard=shard, **long))
        for key in ("tokens", "trained_tokens"):
            assert of_steps(out, key) == of_steps(tmp_path / "1", key)
        assert of_steps(out, "loss") == pytest.approx(of_steps(tmp_path / "1", "loss"), rel=1e-6)


@pytest.mark.soak
def test_every_method_is_divided(lessons: Path, runs: Path, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"你好，第{n}个？",
            "chosen": f"好的，是{n}。",
            "rejected": f"I do not know {n}.",
        }
        for n in range(60)
    ]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (tmp_path / "pairs.jsonl").write_text("".join(lines), encoding="utf-8")
    every_method(lessons, tmp_path, runs / "divided")
    together(2, lessons, tmp_path, runs / "divided")
    for name in METHODS:
        alone = of_steps(tmp_path / f"{name}-none-1", "loss")
        for shard in ("none", "full") if name in SHARDABLE else ("none",):
            divided = of_steps(tmp_path / f"{name}-{shard}-2", "loss")
            assert divided == pytest.approx(alone, rel=1e-6), f"{name}, shard {shard}"
