"""On a card: nothing mixes places, the numbers are those of the processor, and what is refused.

There is no card where this runs; `card.py` stands in for one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.train.card import CARD, CPU, NAME, PEAK_BYTES, Mixed, card
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]
from transformers import PreTrainedModel

from tongwen import AlignConfig, FinetuneConfig, finetune
from tongwen.alignment import reference, rollouts
from tongwen.alignment.stage import align_stage
from tongwen.config import DataPrepareConfig, Device
from tongwen.data import data_prepare
from tongwen.engine import Sampling, best_of, load_engine
from tongwen.errors import ConfigError, RunError
from tongwen.messages import Message
from tongwen.models import PACKED, attention, device, load_model
from tongwen.models.attention import Packing, packed_attention
from tongwen.models.device import check_cards, device_of, reproducible
from tongwen.models.draws import Draws, columns
from tongwen.models.machine import compute_dtype
from tongwen.models.reward import new_reward_model
from tongwen.testing import tiny_model
from tongwen.tokenizer import load_tokenizer, save_tokenizer
from tongwen.train.batch import Batch
from tongwen.train.checkpoint import Position, load_checkpoint, save_checkpoint
from tongwen.train.loop import train_step
from tongwen.train.processes import _check_alike
from tongwen.train.run import Run
from tongwen.train.stages import Stage, assembled, finetune_stage, opened, resolved, scheduled

WORDS = ("red", "green", "blue", "猫", "狗", "鸟")
METHODS: dict[str, dict[str, Any]] = {
    "full": {"average": "ema", "checkpointing": True},
    "muon": {"optimizer": "muon"},
    "8 bits": {"optimizer": "adamw8bit", "precision": "bf16"},
    "mezo": {"optimizer": "mezo"},
    "fp16": {"precision": "fp16"},
    "lora": {"method": "lora", "lora_dropout": 0.1, "neftune": 5.0, "dora": True},
    "qlora": {"method": "qlora", "lora_dropout": 0.1, "precision": "bf16"},
    "int8": {"method": "qlora", "quant": "int8", "modules_to_save": ["embed_tokens"]},
    "prefix": {"method": "prefix", "prefix_tokens": 4},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {"sft_weight": 1.0, "reference": "model"},
    "orpo": {"optimizer": "adamw8bit"},
    "kto": {},
    "reward": {},
    "grpo": {"beta": 0.1, "grpo_tokens": 4, "grpo_group": 2, "grpo_updates": 2, "steps": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and rows of every kind."""
    folder = tmp_path_factory.mktemp("device")
    tiny_model(folder / "model")
    asked = [(f"Say {word} {number}", word) for number in range(2) for word in WORDS]
    rows: dict[str, list[dict[str, Any]]] = {
        "chat": [{"instruction": a, "output": b} for a, b in asked],
        "pairs": [{"prompt": a, "chosen": b, "rejected": "no"} for a, b in asked],
        "judged": [
            {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}],
             "label": b in WORDS[::2]}
            for a, b in asked
        ],
        "tasks": [{"question": a, "answer": b} for a, b in asked],
    }  # fmt: skip
    for name, lines in rows.items():
        source = folder / f"{name}.jsonl"
        source.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
        data_prepare(
            DataPrepareConfig(
                sources=[source], out=folder / name, tokenizer=folder / "model", max_length=64,
                hold_out=0.3,
            )
        )  # fmt: skip
    return folder


def settings(folder: Path, out: Path, data: str = "chat", **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "model": folder / "model", "data": [folder / data], "out": out, "steps": 2,
        "batch_tokens": 120, "micro_batch_tokens": 60, "lr": 1e-3, "warmup": 0.0, "threads": 1,
        "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    return {**given, **changes}


def steps(stage: Stage) -> list[float]:
    """Two steps, a checkpoint and back, and what is asked of held-out data: all the figures."""
    stage = replace(stage, config=resolved(stage.config))
    items, held_out = opened(stage)
    config = stage.config
    with Run(config.out, config, {}) as run:
        learner, task = assembled(stage, scheduled(stage, items), items, held_out, run)
        learner.model.set_attn_implementation(PACKED)
        found = []
        for number in range(2):
            step = train_step(learner, task, config, number)
            found += [step.loss, step.grad_norm or 0.0, *step.figures.values()]
            at = Position(step=number + 1)
            place = save_checkpoint(run.checkpoints, at, learner.optimizer, learner.form)
            load_checkpoint(place, learner.optimizer, learner.form)
        assert task.exam is not None
        found += task.exam(learner.model, 1000).values()
        assert learner.model.device.type == config.device
        return found


def same(ours: list[float], theirs: list[float], precision: str) -> None:
    # Other operations, so other last bits; of fp32 four digits stay, of bf16 hardly two.
    near = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 1e-2}[precision]
    assert ours == pytest.approx(theirs, rel=near, abs=near)


@pytest.mark.parametrize("changes", METHODS.values(), ids=list(METHODS))
def test_a_step_is_the_same_on_a_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    given = settings(folder, tmp_path / "cpu", **changes)
    theirs = steps(finetune_stage(FinetuneConfig(**given)))
    given |= {"out": tmp_path / "card", "device": "cuda"}
    with card(monkeypatch):
        ours = steps(finetune_stage(FinetuneConfig(**given)))
    same(ours, theirs, given["precision"])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_alignment_is_the_same_on_a_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    changes = dict(OBJECTIVES[objective])
    if "reference" in changes:
        changes["reference"] = folder / "model"
    data = {"kto": "judged", "grpo": "tasks"}.get(objective, "pairs")
    given = settings(folder, tmp_path / "cpu", data, objective=objective, **changes)
    theirs = steps(align_stage(AlignConfig(**given)))
    given |= {"out": tmp_path / "card", "device": "cuda"}
    beside: list[PreTrainedModel] = []

    def load(place: Path, dtype: torch.dtype) -> PreTrainedModel:
        beside.append(load_model(place, dtype))
        return beside[-1]

    for module in (reference, rollouts):
        monkeypatch.setattr(module, "load_model", load)
    with card(monkeypatch):
        ours = steps(align_stage(AlignConfig(**given)))
        assert all(model.device == CARD for model in beside)
    assert len(beside) == (objective in ("dpo", "grpo"))
    same(ours, theirs, "fp32")


def test_a_whole_run_on_a_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are those of any run, it says what it ran on, and goes on there alone."""
    given = settings(folder, tmp_path / "run", device="auto", save_every=1)
    with card(monkeypatch):
        finetune(FinetuneConfig(**given))
        spoken = "".join(load_engine(tmp_path / "run").complete("Say", Sampling(4, 0.0)))
    out = tmp_path / "run"
    told = json.loads((out / "passport.json").read_text(encoding="utf-8"))
    assert told["machine"]["card"] == NAME
    assert told["machine"]["peak_card_of_process_bytes"] == PEAK_BYTES
    assert 'device = "cuda"' in (out / "config.toml").read_text(encoding="utf-8")
    state = load_file(out / "checkpoints" / "step-000000002" / "optimizer.safetensors")
    assert state["model.norm.weight.exp_avg"].shape
    assert "".join(load_engine(out).complete("Say", Sampling(4, 0.0))) == spoken
    shutil.rmtree(out / "final")
    with pytest.raises(RunError, match=f"card was {NAME}.*, is now not set"):
        finetune(FinetuneConfig(**given))


def test_the_best_of_several_answers_on_a_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = new_reward_model(folder / "model", load_tokenizer(folder / "model"))
    judge.save_pretrained(tmp_path / "judge")
    save_tokenizer(load_tokenizer(folder / "model"), tmp_path / "judge")
    answers = []
    devices: tuple[Device, ...] = ("cpu", "cuda")
    for where in devices:
        with card(monkeypatch):
            engine = best_of(load_engine(folder / "model", where), tmp_path / "judge", 2)
            said = Sampling(4, 1.0, seed=1, repetition_penalty=1.2)
            answers.append("".join(engine.stream([Message("user", "Say red")], said)))
    assert answers[0] == answers[1]


def test_what_is_left_behind_is_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(folder, tmp_path / "out", device="cuda")
    with card(monkeypatch):
        monkeypatch.setattr(Batch, "to", lambda batch, _: batch)
        with pytest.raises(Mixed, match="embedding"):
            steps(finetune_stage(FinetuneConfig(**given)))


def test_masks_and_noise_have_the_same_bits_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(device: torch.device) -> tuple[Tensor, Tensor]:
        draws = Draws(7)
        draws.begin(3, [5, 2], [4, 6])
        columns_C = columns("a layer", 8).to(device)
        x_TC = torch.ones(10, 8, device=device)
        return draws.dropout(x_TC, 0.5, columns_C), draws.noise(columns_C)

    theirs = drawn(CPU)
    with card(monkeypatch):
        ours = drawn(CARD)
        assert all(one.device == CARD for one in ours)
    assert all(one.equal(other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("window", [None, 8])
def test_flash_attention_is_asked_for_what_buckets_compute(
    monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    """By what torch says of `varlen_attn`: which documents, how far to the left, how many heads."""
    asked: list[dict[str, Any]] = []

    def flash(q: Tensor, k: Tensor, v: Tensor, begin: Tensor, *rest: Any, **how: Any) -> Tensor:
        asked.append({"dtype": begin.dtype, "longest": rest[1:], **how})
        left, right = how["window_size"]
        assert right == 0
        outputs = []
        for first, end in pairwise(begin.tolist()):
            one_q, one_k, one_v = (x[first:end].float().transpose(0, 1) for x in (q, k, v))
            near = torch.ones(end - first, end - first, dtype=torch.bool, device=CARD).tril()
            near = near if left < 0 else near.triu(-left)
            one = F.scaled_dot_product_attention(
                one_q, one_k, one_v, near, scale=how["scale"], enable_gqa=how["enable_gqa"]
            )
            outputs.append(one.transpose(0, 1))
        return torch.cat(outputs).to(q.dtype)

    def attend(capability: tuple[int, int]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shapes = ((1, heads, 43, 16) for heads in (4, 2, 2))
        drawn = [torch.randn(shape, generator=generator) for shape in shapes]
        with card(monkeypatch, capability):
            q, k, v = (one.to(CARD, torch.bfloat16) for one in drawn)
            packing = Packing.of([30, 1, 12]).to(CARD)
            out, _ = packed_attention(
                nn.Module(), q, k, v, None, packing=packing, sliding_window=window
            )
        return out.float()

    monkeypatch.setattr(attention, "varlen_attn", flash)
    slow = attend((7, 5))
    assert not asked
    fast = attend((8, 0))
    assert asked[0]["dtype"] == torch.int32
    assert asked[0]["longest"] == (30, 30)
    torch.testing.assert_close(fast, slow, rtol=2e-2, atol=2e-2)


def test_the_device_that_a_setting_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cards", lambda: 0)
    assert device_of("auto") == device_of("cpu") == CPU
    with pytest.raises(ConfigError, match="--device is cuda, and torch sees no card here"):
        device_of("cuda")
    monkeypatch.setattr(device, "cards", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == device_of("cuda") == torch.device("cuda", 1)
    assert device_of("cpu") == CPU


def test_more_processes_than_cards_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "cards", lambda: 2)
    given = settings(folder, tmp_path / "out", device="auto", nproc=3)
    with pytest.raises(ConfigError, match=r"3 processes compute on a card each.* has 2") as error:
        finetune(FinetuneConfig(**given))
    assert error.value.hint == "start 2 of them here, or give --device cpu"
    check_cards("auto", 2)
    check_cards("cpu", 3)


def test_machines_with_and_without_cards_do_not_go_together() -> None:
    store = HashStore()
    _check_alike(store, 0, CARD)
    _check_alike(store, 1, CARD)
    with pytest.raises(
        ConfigError, match="process 2 computes on device cpu, and process 0 on cuda"
    ):
        _check_alike(store, 2, CPU)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((9, 0), torch.bfloat16), ((7, 5), torch.float16), ((6, 1), torch.float32)],
)
def test_the_precision_of_a_card(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    with card(monkeypatch, capability):
        assert compute_dtype("auto", CARD) == dtype
        assert compute_dtype("fp32", CARD) == torch.float32


def test_only_exact_algorithms_compute_gradients_on_a_card() -> None:
    with reproducible(CPU):
        assert not torch.are_deterministic_algorithms_enabled()
    with reproducible(CARD):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
