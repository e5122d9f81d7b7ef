"""Where runs start: with the weights of another, or where another one stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.train.stand import interrupted_before

from tongwen import FinetuneConfig, PretrainConfig, finetune, pretrain
from tongwen.config import DataPrepareConfig
from tongwen.data import TokenStore, data_prepare
from tongwen.errors import DataError, RunError
from tongwen.files import sha256_file
from tongwen.models import context_window, load_model
from tongwen.train.inputs import planned
from tongwen.train.run import read_metrics
from tongwen.train.schedule import learning_rate

COMMON: dict[str, Any] = {
    "batch_tokens": 600, "micro_batch_tokens": 600, "lr": 3e-3, "eval_every": 8, "threads": 1,
    "precision": "fp32", "weight_decay": 0.0, "schedule": "linear", "warmup": 0.1,
}  # fmt: skip


def pretraining(lessons: Path, out: Path, **changes: Any) -> PretrainConfig:
    own = {"data": [lessons / "text"], "size": "1m", "context": 256, "steps": 6, "out": out}
    return PretrainConfig(**{**COMMON, **own, **changes})


def finetuning(lessons: Path, out: Path, model: Path, **changes: Any) -> FinetuneConfig:
    own = {"data": [lessons / "chat"], "model": model, "steps": 6, "out": out}
    return FinetuneConfig(**{**COMMON, **own, **changes})


def steps(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run / "metrics.jsonl") if "loss" in record]


def weights(run: Path) -> str:
    return sha256_file(run / "final" / "model.safetensors")


@pytest.fixture(scope="module")
def run(lessons: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    pretrain(pretraining(lessons, out, save_every=3, keep=9))
    return out


def test_a_warm_start_takes_the_weights_and_nothing_else(
    lessons: Path, run: Path, tmp_path: Path
) -> None:
    pretrain(pretraining(lessons, tmp_path / "warm", warm_start=run))
    pretrain(pretraining(lessons, tmp_path / "model", model=run))
    assert weights(tmp_path / "warm") == weights(tmp_path / "model")
    rates = [record["lr"] for record in steps(tmp_path / "warm")]
    assert rates == [record["lr"] for record in steps(run)]


def test_an_appended_run_goes_on_with_the_schedule_and_other_data(
    lessons: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "appended"
    config = finetuning(lessons, out, run, append=run, steps=10)
    finetune(config)
    done = steps(out)
    assert [record["step"] for record in done] == [7, 8, 9, 10]
    expected = [3e-3 * learning_rate(step, 10, config) for step in range(6, 10)]
    assert [record["lr"] for record in done] == pytest.approx(expected)
    # The data of the new run are seen from their beginning.
    fresh = tmp_path / "fresh"
    finetune(finetuning(lessons, fresh, run, steps=4))
    assert [one["tokens"] for one in done] == [one["tokens"] for one in steps(fresh)]
    # Speed is told of what both did in the time of both.
    told, before = (
        json.loads((one / "passport.json").read_text(encoding="utf-8"))["result"]
        for one in (out, run)
    )
    for key in ("tokens", "trained_tokens", "flops"):
        assert told[key] == before[key] + sum(record[key] for record in done)
    assert told["seconds"] > before["seconds"]
    assert told["mfu"] / before["mfu"] == pytest.approx(
        told["flops"] / told["seconds"] / (before["flops"] / before["seconds"])
    )
    # The optimiser goes on: its moments are not those of a run that begins with these weights.
    assert weights(out) != weights(fresh)


def test_an_appended_run_has_the_steps_of_the_longer_of_both(lessons: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    pretrain(pretraining(lessons, half, steps=3, save_every=3))
    (half / "plan.json").write_text(json.dumps({"first": 0, "total": 9}), encoding="utf-8")
    out = tmp_path / "on"
    # A tenth of an epoch asks for a step or two; the schedule of nine goes on.
    pretrain(pretraining(lessons, out, append=half, steps=None, epochs=0.1))
    assert [record["step"] for record in steps(out)] == [4, 5, 6, 7, 8, 9]


def test_an_appended_run_is_resumed_though_the_other_went_on(lessons: Path, tmp_path: Path) -> None:
    whole, cut, other = (tmp_path / name for name in ("whole", "cut", "other"))
    pretrain(pretraining(lessons, other, save_every=3))
    pretrain(pretraining(lessons, whole, append=other, steps=10))
    with interrupted_before(9):
        pretrain(pretraining(lessons, cut, append=other, steps=10, save_every=1))
    for path in (other / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    pretrain(pretraining(lessons, cut, append=other, steps=10, save_every=1))
    assert weights(cut) == weights(whole)


def test_a_finished_run_is_gone_on_from_at_its_end(lessons: Path, tmp_path: Path) -> None:
    done, out = tmp_path / "done", tmp_path / "on"
    pretrain(pretraining(lessons, done, steps=4))
    pretrain(pretraining(lessons, out, append=done, steps=6, eval_every=50))
    assert [record["step"] for record in steps(out)] == [5, 6]
    asked = [one for one in read_metrics(out / "metrics.jsonl") if "held_out_loss" in one]
    assert [one["step"] for one in asked] == [4, 6]


def test_the_data_of_the_decay_begin_with_the_decay_of_the_schedule(
    lessons: Path, tmp_path: Path
) -> None:
    """With 4 of 10 steps done and a decay of the last 4, two steps are of `data`."""
    config = pretraining(
        lessons, tmp_path, schedule="wsd", decay=0.4, decay_data=[lessons / "chat"],
        batch_ramp=6, batch_ramp_parts=3, steps=10,
    )  # fmt: skip
    lengths = [np.full(200, 10), np.full(200, 10)]
    whole, _ = planned(config, lengths, [*config.data, lessons / "chat"])
    rest, _ = planned(config, lengths, [*config.data, lessons / "chat"], done=4)
    sizes = [sum(map(len, whole.step(step))) for step in range(10)]
    for step in range(4, 10):
        groups = np.concatenate(rest.step(step))
        assert (groups >= 200).all() == (groups >= 200).any() == (step >= 6)
        assert len(groups) == sizes[step]


@pytest.mark.parametrize("done", [0, 4, 5])
def test_several_updates_take_every_draw_several_times(done: int) -> None:
    """Across the ramp and the switch of the data, and where another run stopped within a draw."""
    folders = [Path("d"), Path("later")]

    def order(updates: int, **asked: Any) -> list[list[int]]:
        """The groups of every step behind `done`, in a schedule that is so many times as long."""
        config = PretrainConfig(
            data=folders[:1], out=Path("o"), batch_tokens=60, schedule="wsd", decay=0.3,
            decay_data=folders[1:], batch_ramp=6 * updates, batch_ramp_parts=3, **asked,
        )  # fmt: skip
        first = done * updates // 2
        lengths = [np.full(200, 10), np.full(200, 10)]
        plan, steps = planned(config, lengths, folders, 0, first, updates)
        return [np.concatenate(plan.step(step)).tolist() for step in range(first, steps)]

    once = order(1, steps=10)
    assert {group >= 200 for draw in once for group in draw} == {False, True}
    assert len(set(map(len, once))) > 1
    assert order(2, steps=20) == [draw for draw in once for _ in range(2)][done % 2 :]
    assert len(order(2, epochs=0.4)) == 2 * len(order(1, epochs=0.4)) - done % 2


def test_what_does_not_learn_must_be_that_of_the_model(
    lessons: Path, run: Path, tmp_path: Path
) -> None:
    frozen: dict[str, Any] = {"freeze_layers": 1, "steps": 1}
    pretrain(pretraining(lessons, tmp_path / "same", model=run, warm_start=run, **frozen))
    pretrain(pretraining(lessons, tmp_path / "other", model=run, steps=1))
    with pytest.raises(RunError, match=r"than --model for model\.layers\.0\..*does not learn"):
        pretrain(
            pretraining(lessons, tmp_path / "x", model=run, warm_start=tmp_path / "other", **frozen)
        )


def test_another_tokenizer_of_the_same_size_is_refused(
    lessons: Path, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    source: list[str | Path] = [lessons / "chat.jsonl"]
    data_prepare(DataPrepareConfig(sources=source, out=other, vocab_size=500, max_length=256))
    with pytest.raises(RunError, match="has another tokenizer than the data of this run"):
        pretrain(pretraining(lessons, tmp_path / "x", data=[other], warm_start=run))


def test_nothing_left_to_do_and_other_models_are_refused(
    lessons: Path, run: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"stands at step 6 of 6: there is nothing left") as caught:
        pretrain(pretraining(lessons, tmp_path / "a", append=run, steps=None, epochs=0.1))
    assert "more than 6 `--steps`" in str(caught.value.hint)
    with pytest.raises(RunError, match=r"holds weights of shape \(500, 128\) for model.embed"):
        pretrain(pretraining(lessons, tmp_path / "b", append=run, steps=9, size="5m"))
    with pytest.raises(RunError, match="does not say how many steps"):
        pretrain(pretraining(lessons, tmp_path / "c", append=lessons, steps=9))


def test_a_longer_window_is_learned_and_kept(lessons: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "long"
    pretrain(pretraining(lessons, out, model=run, context=1024, rope="yarn", steps=2))
    assert context_window(out) == 1024
    assert load_model(out, torch.float32).config.rope_parameters["rope_type"] == "yarn"
    dynamic: dict[str, Any] = {"data": [lessons / "text.jsonl"], "context": 1024, "rope": "dynamic"}
    pretrain(pretraining(lessons, tmp_path / "dynamic", model=run, steps=1, **dynamic))
    assert int(TokenStore.open(tmp_path / "dynamic" / "data", "train").lengths.max()) == 256
    # What changes with the length at hand is not trained beyond the window of training.
    with pytest.raises(DataError, match="more than the 16 that the model can see"):
        pretrain(pretraining(lessons, tmp_path / "short", size="1m", context=16, steps=1))
    with pytest.raises(ValueError, match="rope needs a context"):
        finetuning(lessons, tmp_path / "x", run, rope="yarn")


def test_the_guard_asks_before_during_and_after(
    lessons: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "guarded"
    finetune(finetuning(lessons, out, run, guard=[lessons / "text"], eval_every=3))
    asked = [one for one in read_metrics(out / "metrics.jsonl") if "guard_bits_per_byte" in one]
    assert [one["step"] for one in asked] == [0, 3, 6]
    before, after = asked[0]["guard_bits_per_byte"], asked[-1]["guard_bits_per_byte"]
    assert f"guard: bits per byte {before:.3f} before, {after:.3f} after" in capsys.readouterr().err
    assert "guard" in (out / "report.html").read_text(encoding="utf-8")
    with pytest.raises(DataError, match="is no prepared folder"):
        finetune(finetuning(lessons, tmp_path / "x", run, guard=[lessons]))


def test_rows_make_a_batch(lessons: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows"
    finetune(
        finetuning(
            lessons, out, run, batch_rows=48, incomplete="drop", steps=None, epochs=2,
            micro_batch_tokens=300,
        )
    )  # fmt: skip
    assert len(steps(out)) == 2 * (len(TokenStore.open(lessons / "chat", "train")) // 48)
