"""The verb: what it says of a machine, of a run's settings, and what it proposes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from tongwen.config import DataPrepareConfig, ForecastConfig
from tongwen.config.adapter import AdapterConfig
from tongwen.data import TokenStore, data_prepare
from tongwen.errors import ConfigError, ModelError
from tongwen.forecasts import Forecast, forecast
from tongwen.forecasts.machines import machine
from tongwen.models.adapter import adapt
from tongwen.models.anatomy import anatomy_of, read_anatomy
from tongwen.models.memory import CHUNK_BYTES, training_memory
from tongwen.models.recipe import Load, Recipe
from tongwen.models.room import verdict_of
from tongwen.testing import tiny_model
from tongwen.train import loss
from tongwen.train.heaviest import heaviest
from tongwen.train.plan import Plan

CARD = "RTX 4090"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a model of seven billion parameters, and no weights."""
    folder = tmp_path_factory.mktemp("seven")
    LlamaConfig(tie_word_embeddings=False, max_position_embeddings=2048).save_pretrained(folder)
    return folder


def told(**settings: Any) -> Forecast:
    """A forecast for a card, so that nothing is measured here."""
    return forecast(ForecastConfig(**{"machine": CARD, **settings}))


def test_a_config_without_weights_is_enough(model: Path) -> None:
    answer = told(model=model, method="qlora", tokens=1_000_000)
    assert answer.parameters == 6_738_415_616
    assert answer.trainable == 19_988_480
    assert answer.peak_bytes == pytest.approx(sum(answer.memory.values()))
    assert answer.steps == 122
    assert answer.seconds == pytest.approx(answer.steps * answer.seconds_per_step)


def test_seven_billion_parameters_in_full_do_not_fit_a_small_card(model: Path) -> None:
    assert told(model=model).verdict == "does not fit"
    assert "does not fit" in str(told(model=model))


@pytest.mark.parametrize("card", ["RTX 2080 Ti", "RTX 4090", "A100 80 GB"])
def test_what_is_proposed_fits_and_costs_in_order(model: Path, card: str) -> None:
    answer = told(model=model, machine=card, precision="fp16", fit=True)
    assert answer.proposals
    for proposal in answer.proposals:
        settings = {"model": model, "machine": card, "precision": "fp16", **proposal.settings}
        assert told(**settings).verdict == "fits"
        assert told(**settings).peak_bytes == proposal.peak_bytes
        assert proposal.flags in str(answer)
    methods = [str(proposal.settings.get("method", "full")) for proposal in answer.proposals]
    assert methods == sorted(methods, key=("full", "lora", "qlora").index)


def test_what_fits_as_it_is_is_proposed_as_it_is(model: Path) -> None:
    answer = told(model=model, machine="H200", fit=True, method="lora")
    assert answer.verdict == "fits"
    assert answer.proposals is not None
    assert answer.proposals[0].settings == {}


def test_an_adapter_is_not_proposed_for_a_new_model() -> None:
    answer = told(size="1b", machine="RTX 2080 Ti", precision="fp16", fit=True)
    assert answer.proposals is not None
    assert not [one for one in answer.proposals if "method" in one.settings]


@given(
    peak=st.floats(1e6, 1e12),
    error=st.floats(-0.15, 0.15),
    available=st.floats(1e6, 1e12),
)
def test_fits_is_never_said_wrongly_within_the_margin(
    peak: float, error: float, available: float
) -> None:
    """Whatever the forecast is wrong by, up to its margin: what is said to fit fits."""
    said = verdict_of(peak / (1 + error), 0.15, available)
    if said == "fits":
        assert peak <= available * (1 + 1e-9)
    if said == "does not fit" and error >= 0:
        assert peak > available * (1 - 1e-9)


@pytest.mark.parametrize(
    "less",
    [
        {"micro_batch_tokens": 512},
        {"checkpointing": True},
        {"optimizer": "adamw8bit"},
        {"optimizer": "muon"},
        {"optimizer": "mezo"},
        {"method": "lora"},
        {"method": "qlora"},
        {"nproc": 8, "shard": "full"},
        {"nproc": 8, "shard": "full", "offload": True},
    ],
    ids=str,
)
def test_what_saves_memory_is_seen_to(model: Path, less: dict[str, Any]) -> None:
    assert told(model=model, **less).peak_bytes < told(model=model).peak_bytes


def test_a_run_folder_and_a_settings_file_say_the_same(model: Path, tmp_path: Path) -> None:
    text = (
        f'model = "{model}"\nmethod = "lora"\nlora_r = 16\nlr = 0.001\nseed = 3\nsave_every = 9\n'
    )
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    by_file = told(run=tmp_path / "config.toml")
    by_folder = told(run=tmp_path)
    # Others may write to the disk in between.
    assert by_file == replace(by_folder, disk_free_bytes=by_file.disk_free_bytes)
    assert by_file.trainable == 2 * 19_988_480
    assert told(run=tmp_path, lora_r=8).trainable == 19_988_480


def test_a_misspelt_key_of_a_settings_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("micro_batch_token = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="micro_batch_token") as caught:
        told(run=tmp_path / "run.toml")
    assert caught.value.hint == "did you mean `micro_batch_tokens`?"


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="one of run, model and size"):
        ForecastConfig()


@pytest.mark.parametrize("name", ["4090", "rtx4090", "GeForce RTX 4090", "NVIDIA GeForce RTX 4090"])
def test_a_machine_is_found_by_its_words(name: str) -> None:
    assert machine(name, 0, "auto").name == "RTX 4090"


def test_a_machine_that_can_be_two_is_asked_about() -> None:
    with pytest.raises(ConfigError, match="A100 40 GB or A100 80 GB"):
        machine("A100", 0, "auto")
    assert machine("a100 80g", 0, "auto").name == "A100 80 GB"


def test_an_unknown_machine_and_precision_are_named() -> None:
    with pytest.raises(ConfigError, match="no machine `RTX 9999`"):
        machine("RTX 9999", 0, "auto")
    with pytest.raises(ConfigError, match="bf16 is not what T4 computes in"):
        told(size="1m", machine="T4", precision="bf16")


def test_experts_are_refused(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_moe", "num_hidden_layers": 2, "num_experts": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="mixes experts"):
        read_anatomy(tmp_path)


def test_prepared_data_are_cut_as_training_cuts_them(tmp_path: Path) -> None:
    tiny_model(tmp_path / "model")
    rows = [{"text": "字" * (7 * n % 60 + 1)} for n in range(80)]
    source = tmp_path / "rows.jsonl"
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    source.write_text("".join(lines), encoding="utf-8")
    data_prepare(
        DataPrepareConfig(
            sources=[source],
            out=tmp_path / "data",
            tokenizer=tmp_path / "model",
            hold_out=0,
        )
    )
    lengths = TokenStore.open(tmp_path / "data", "train").lengths
    plan = Plan(lengths, 1024, 256, seed=0)
    micro = [lengths[part] for step in range(plan.steps_per_epoch) for part in plan.step(step)]
    load = heaviest(plan, lengths, range(plan.steps_per_epoch), 0.5)
    assert load.tokens == max(int(part.sum()) for part in micro)
    assert load.trained == round(load.tokens * 0.5)
    assert load.shapes == len({int(part.sum()) for part in micro})
    run: dict[str, Any] = {
        "model": tmp_path / "model",
        "data": [tmp_path / "data"],
        "batch_tokens": 1024,
        "micro_batch_tokens": 256,
        "precision": "bf16",
    }
    answer = told(machine="Xeon", **run)
    assert answer.steps == plan.steps_per_epoch
    assert answer.assumptions == []

    by_rows = told(machine="Xeon", **run, batch_rows=20)
    assert by_rows.tokens_per_step == pytest.approx(20 * lengths.mean(), abs=1)
    assert by_rows.steps == len(lengths) // 20


def test_a_preset_says_all_but_the_model(model: Path) -> None:
    answer = told(run=Path("vicuna-chat"), model=model)
    assert answer.stage == "finetune"
    assert answer.trainable == 19_988_480
    by_quota = told(run=Path("knowlm-pretrain"), model=model)
    assert by_quota.tokens_per_step == 1440 * 1024
    with pytest.raises(ConfigError, match=r"vicuna-chat.* names no model") as caught:
        told(run=Path("vicuna-chat"))
    assert caught.value.hint == "give --model or --size beside it"
    with pytest.raises(ConfigError) as caught:
        told(run=Path("vicuna-chatt"), model=model)
    assert caught.value.hint == "did you mean the preset `vicuna-chat`?"


def test_what_is_passed_over_is_said(model: Path, tmp_path: Path) -> None:
    text = f'model = "{model}"\nmix = [1.0, 2.0]\nbatch_rows = 16\ncontext = 128\n'
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    answer = told(run=tmp_path, batch_ramp=9)
    assert answer.tokens_per_step == 16 * 128
    assert answer.assumptions == [
        "items of 128 tokens, all of which carry loss",
        "mix as if it were not given",
        "batch_ramp as if it were not given",
    ]


def test_items_are_as_long_as_the_window(model: Path) -> None:
    assert "items of 2,048 tokens" in told(model=model).assumptions[0]
    assert "items of 512 tokens" in told(size="1m").assumptions[0]
    assert "items of 4,096 tokens" in told(model=model, stage="align").assumptions[0]
    assert "items of 2,048 tokens" in told(model=model, objective="kto").assumptions[0]


def test_a_judge_is_proposed_in_full_alone(model: Path) -> None:
    answer = told(model=model, machine="H200", objective="reward", optimizer="adamw8bit", fit=True)
    assert answer.proposals is not None
    assert not [one for one in answer.proposals if "method" in one.settings]


def test_here_is_the_processor_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tongwen.models.device.cards", lambda: 1)
    assert not machine("here", 1, "fp32", "cpu").card


def test_answers_that_are_generated_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="grpo generates answers"):
        told(model=model, objective="grpo")


@pytest.mark.parametrize(
    "adapter",
    [
        {},
        {"freeze_layers": 1},
        {"freeze_layers": 1, "freeze_embeddings": True},
        {"method": "lora", "lora_r": 4},
        {"method": "lora", "lora_targets": ["q_proj", "self_attn.v_proj"]},
        {"method": "lora", "dora": True},
        {"method": "lora", "modules_to_save": ["lm_head"]},
        {"method": "prefix", "prefix_tokens": 7},
    ],
    ids=str,
)
def test_what_learns_is_counted_as_it_will_be(adapter: dict[str, Any]) -> None:
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    settings = AdapterConfig(**adapter)
    real = LlamaForCausalLM(config)
    adapt(real, settings, seed=0)
    learning = sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert Recipe(adapter=settings).trainable(anatomy_of(config)) == learning


def test_the_chunk_of_logits_is_that_of_the_loss() -> None:
    assert CHUNK_BYTES == loss.CHUNK_BYTES


def test_a_larger_micro_batch_never_takes_less() -> None:
    anatomy = anatomy_of(LlamaConfig(num_hidden_layers=4))
    peaks = [
        training_memory(anatomy, Recipe(precision=precision), Load(n, n, n, n * 128)).peak
        for precision in ("bf16", "fp32")
        for n in (128, 256, 1024, 4096, 65536)
    ]
    assert peaks[:5] == sorted(peaks[:5])
    assert peaks[5:] == sorted(peaks[5:])
