"""Configs of other trainers become ours; every key of them is accounted for."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tongwen.config import AlignConfig, FinetuneConfig, PretrainConfig
from tongwen.config.imports import DataImportConfig
from tongwen.data.foreign_keys import FRAMEWORKS
from tongwen.data.foreign_values import CONVERTERS
from tongwen.data.imports import DataImportResult, data_import_config
from tongwen.errors import ConfigError

LF_FULL = """
### model
model_name_or_path: models/Qwen2.5-0.5B
trust_remote_code: true

### method
stage: sft
do_train: true
finetuning_type: full
deepspeed: examples/deepspeed/ds_z3_config.json

### dataset
dataset: talk,more
dataset_dir: DATA
template: qwen
cutoff_len: 1024
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4
packing: true
neat_packing: true

### output
output_dir: saves/full
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
report_to: none
save_total_limit: 3

### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 4
learning_rate: 1.0e-5
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null

### eval
val_size: 0.02
per_device_eval_batch_size: 1
eval_strategy: steps
eval_steps: 250
"""
LF_LORA = """
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_en_demo
template: llama3
cutoff_len: 2048
max_samples: 1000
output_dir: saves/llama3-8b/lora/sft
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
"""
LF_PRETRAIN = """
model_name_or_path: models/small
stage: pt
do_train: true
finetuning_type: full
dataset: wiki
dataset_dir: DATA
cutoff_len: 512
output_dir: saves/pt
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
learning_rate: 1e-4
max_steps: 1000
warmup_steps: 50
lr_scheduler_type: cosine
"""
SWIFT = r"""
# 22 GB
NPROC_PER_NODE=2 CUDA_VISIBLE_DEVICES=0,1 \
swift sft \
    --model models/Qwen2.5-0.5B \
    --train_type full \
    --dataset DATA/talk.json DATA/more.json \
    --torch_dtype bfloat16 \
    --num_train_epochs 1 \
    --per_device_train_batch_size 1 \
    --per_device_eval_batch_size 1 \
    --learning_rate 1e-5 \
    --gradient_accumulation_steps 16 \
    --eval_steps 50 \
    --save_steps 50 \
    --save_total_limit 2 \
    --logging_steps 5 \
    --max_length 2048 \
    --output_dir output \
    --system 'You are a helpful assistant.' \
    --warmup_ratio 0.05 \
    --dataloader_num_workers 4 \
    --model_author swift \
    --model_name swift-robot
"""
AXOLOTL = """
base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: false
datasets:
  - path: DATA/talk.json
    type: alpaca
dataset_prepared_path: last_run_prepared
val_set_size: 0.05
output_dir: ./outputs/lora-out
adapter: lora
lora_model_dir:
sequence_len: 2048
sample_packing: true
eval_sample_packing: true
pad_to_sequence_len: true
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_modules:
  - gate_proj
  - down_proj
wandb_project:
wandb_entity:
gradient_accumulation_steps: 2
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_8bit
lr_scheduler: cosine
learning_rate: 0.0002
train_on_inputs: false
bf16: auto
tf32: false
gradient_checkpointing: true
resume_from_checkpoint:
logging_steps: 1
flash_attention: true
warmup_steps: 10
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
special_tokens:
   pad_token: "<|end_of_text|>"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder in the manner of LLaMA-Factory, with two files."""
    folder = tmp_path / "data"
    folder.mkdir()
    entries = {"wiki": {"file_name": "wiki.txt", "columns": {"prompt": "text"}}}
    for name in ("talk", "more"):
        (folder / f"{name}.json").write_text("[]", "utf-8")
        entries[name] = {"file_name": f"{name}.json"}
    (folder / "wiki.txt").write_text("a", "utf-8")
    (folder / "dataset_info.json").write_text(json.dumps(entries), "utf-8")
    return folder


def convert(
    place: Path, name: str, text: str, **settings: object
) -> tuple[DataImportResult, dict[str, str]]:
    """The result, and what became of each key."""
    file = place.parent / name
    file.write_text(text.replace("DATA", str(place)), "utf-8")
    result = data_import_config(DataImportConfig(file=file, **settings))  # type: ignore[arg-type]
    return result, {key.key: key.fate for key in result.keys}


def refused(
    place: Path, name: str, text: str, capfd: pytest.CaptureFixture[str], **settings: object
) -> list[str]:
    """The keys that are refused; each is named in the error and explained on stderr."""
    with pytest.raises(ConfigError) as caught:
        convert(place, name, text, **settings)
    listed = [line.split() for line in capfd.readouterr().err.splitlines()]
    explained = [words[1] for words in listed if words[0] == "refused"]
    assert caught.value.message.endswith(f"cannot be followed in {', '.join(explained)}")
    return explained


def test_llama_factory_full(data: Path) -> None:
    out = data.parent / "ours.toml"
    result, fates = convert(data, "full.yaml", LF_FULL, out=out)
    assert set(yaml.safe_load(LF_FULL)) <= set(fates)
    assert result.verb == "finetune"
    ours = FinetuneConfig.model_validate(tomllib.loads(out.read_text("utf-8")))
    assert ours == FinetuneConfig(
        model=Path("models/Qwen2.5-0.5B"),
        data=[data / "talk.json", data / "more.json"],
        out=Path("saves/full"),
        lr=1e-5,
        epochs=3.0,
        schedule="cosine",
        min_lr=0.0,
        betas=(0.9, 0.999),
        warmup=0.1,
        precision="bf16",
        batch_tokens=2 * 4 * 1024,
        micro_batch_tokens=2 * 1024,
        save_every=500,
        eval_every=250,
        keep=3,
        seed=42,
    )
    assert "--max-length 1024 --hold-out 0.02" in out.read_text("utf-8")
    assert fates["cutoff_len"] == fates["val_size"] == "moved"
    assert fates["trust_remote_code"] == fates["deepspeed"] == fates["template"] == "idle"
    assert [key.key for key in result.keys if key.default] == [
        "weight_decay",
        "max_grad_norm",
        "seed",
        "adam_beta2",
    ]


def test_llama_factory_pretraining(data: Path) -> None:
    result, _ = convert(data, "pt.yaml", LF_PRETRAIN, devices=2)
    assert result.verb == "pretrain"
    assert result.out is None
    ours = PretrainConfig.model_validate(tomllib.loads(str(result)))
    assert (ours.steps, ours.warmup_steps, ours.context) == (1000, 50, 512)
    assert (ours.batch_tokens, ours.micro_batch_tokens) == (2 * 4 * 2 * 512, 4 * 512)
    assert ours.data == [data / "wiki.txt"]


def test_what_a_trainer_does_by_itself_is_taken_too(data: Path) -> None:
    """A line without a floor, as transformers goes; noise, fp16 and a warm-up in steps."""
    text = LF_FULL.replace("lr_scheduler_type: cosine\n", "").replace("bf16: true\n", "")
    text = text.replace("warmup_ratio: 0.1\n", "")
    result, _ = convert(
        data, "x.yaml", f"{text}\nfp16: true\nneftune_noise_alpha: 5\nwarmup_steps: 9\n"
    )
    ours = FinetuneConfig.model_validate(result.settings)
    assert (ours.schedule, ours.precision, ours.neftune) == ("linear", "fp16", 5.0)
    assert (ours.warmup_steps, ours.lr) == (9, 1e-5)


def test_llama_factory_lora(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(data, "lora.yaml", LF_LORA, capfd, data=("a.json",)) == ["max_samples"]
    result, fates = convert(
        data, "lora.yaml", LF_LORA, devices=2, data=("a.json",), leave_out=("max_samples",)
    )
    ours = FinetuneConfig.model_validate(tomllib.loads(str(result)))
    assert (ours.method, ours.lora_r, ours.lora_alpha) == ("lora", 8, 16)
    assert (ours.lora_targets, ours.lora_dropout) == (["all-linear"], 0.0)
    assert ours.batch_rows == 1 * 8 * 2
    assert fates["max_samples"] == "idle"


def test_llama_factory_qlora(data: Path) -> None:
    """Alpha is twice the rank where it is not given; codes and scales are those of NF4 here."""
    more = """
quantization_bit: 4
quantization_method: bnb
double_quantization: true
use_rslora: true
additional_target: embed_tokens,lm_head
adapter_name_or_path: saves/before
"""
    text = LF_LORA.replace("lora_rank: 8", "lora_rank: 32").replace("max_samples: 1000\n", "")
    text = text.replace("lora_target: all", "lora_target: q_proj, v_proj")
    result, _ = convert(data, "qlora.yaml", text + more, data=("a.json",))
    ours = FinetuneConfig.model_validate(result.settings)
    assert (ours.method, ours.quant, ours.rslora) == ("qlora", "nf4", True)
    assert (ours.lora_r, ours.lora_alpha, ours.lora_targets) == (32, 64, ["q_proj", "v_proj"])
    assert ours.modules_to_save == ["embed_tokens", "lm_head"]
    assert ours.warm_start == Path("saves/before")


LF_DPO = LF_FULL.replace("stage: sft", "stage: dpo").replace("packing: true\nneat_", "")
LF_DPO = LF_DPO.replace("packing: true\n", "")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", {"objective": "dpo", "beta": 0.1}),
        ("pref_loss: ipo\npref_beta: 0.5", {"objective": "dpo", "dpo_loss": "ipo", "beta": 0.5}),
        ("pref_ftx: 0.3\nref_model: m", {"sft_weight": 0.3, "reference": "m"}),
        ("pref_loss: orpo\npref_beta: 0.2", {"objective": "orpo", "orpo_lambda": 0.2}),
        ("pref_loss: simpo", {"objective": "simpo", "beta": 0.1, "simpo_gamma": 0.5}),
        ("pref_loss: simpo\nsimpo_gamma: 1.4", {"simpo_gamma": 1.4}),
        ("stage: kto\nkto_rejected_weight: 1.5", {"objective": "kto", "kto_undesirable": 1.5}),
        ("stage: rm", {"objective": "reward"}),
    ],
)
def test_llama_factory_preferences(data: Path, lines: str, expected: dict[str, object]) -> None:
    result, _ = convert(data, "dpo.yaml", f"{LF_DPO}\n{lines}\n")
    assert result.verb == "align"
    assert result.settings.items() >= expected.items()
    assert AlignConfig.model_validate(tomllib.loads(result.toml)).batch_rows == 2 * 4


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", {"objective": "dpo"}),
        ("--rlhf_type dpo --beta 0.3 --rpo_alpha 1", {"beta": 0.3, "sft_weight": 1}),
        ("--rlhf_type dpo --loss_type robust --label_smoothing 0.1", {"dpo_loss": "robust"}),
        ("--rlhf_type kto --undesirable_weight 2", {"objective": "kto", "kto_undesirable": 2}),
        ("--rlhf_type simpo --cpo_alpha 0", {"objective": "simpo"}),
        ("--rlhf_type orpo --beta 0.4", {"objective": "orpo", "orpo_lambda": 0.4}),
    ],
)
def test_swift_preferences(data: Path, flags: str, expected: dict[str, object]) -> None:
    text = SWIFT.replace("swift sft", f"swift rlhf {flags}")
    result, _ = convert(data, "rlhf.sh", text)
    assert result.verb == "align"
    assert result.settings.items() >= expected.items()


def test_what_preferences_need_and_is_not_here(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for flags, key in (
        ("--rlhf_type simpo", "cpo_alpha"),
        ("--rlhf_type grpo", "command rlhf_type"),
        ("--rlhf_type gkd", "command rlhf_type"),
        ("--loss_type sft", "loss_type"),
    ):
        text = SWIFT.replace("swift sft", f"swift rlhf {flags}")
        assert refused(data, "rlhf.sh", text, capfd) == key.split()
    both = LF_DPO + "\nreward_model: m\npref_bco_weight: 0.5\n"
    assert refused(data, "x.yaml", both, capfd) == ["reward_model", "pref_bco_weight"]


def test_a_method_that_is_not_named_is_the_other_trainers_default(data: Path) -> None:
    without = LF_FULL.replace("finetuning_type: full\n", "")
    result, _ = convert(data, "x.yaml", without)
    assert result.settings["method"] == "lora"
    without = SWIFT.replace("    --train_type full \\\n", "")
    result, _ = convert(data, "x.sh", without)
    ours = FinetuneConfig.model_validate(result.settings)
    assert (ours.method, ours.lora_r, ours.lora_alpha, ours.lora_dropout) == ("lora", 8, 32, 0.05)
    for text, lr in ((without, 1e-4), (SWIFT, 1e-5)):
        result, _ = convert(data, "x.sh", text.replace("    --learning_rate 1e-5 \\\n", ""))
        assert result.settings["lr"] == lr


def test_where_a_cosine_ends(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, lines, floor in (
        ("cosine", "", 0.0),
        ("cosine_with_min_lr", "lr_scheduler_kwargs: {min_lr_rate: 0.2}", 0.2),
        ("cosine_with_min_lr", "lr_scheduler_kwargs: {min_lr: 2.0e-6}", 0.2),
    ):
        text = LF_FULL.replace("lr_scheduler_type: cosine", f"lr_scheduler_type: {name}\n{lines}")
        result, _ = convert(data, "x.yaml", text)
        assert result.settings["min_lr"] == pytest.approx(floor)
    result, _ = convert(
        data,
        "x.yml",
        AXOLOTL.replace("bf16", "cosine_min_lr_ratio: 0.3\nbf16"),
        leave_out=("special_tokens",),
    )
    assert result.settings["min_lr"] == 0.3
    cycles = f"{LF_FULL}\nlr_scheduler_kwargs: {{num_cycles: 3}}\n"
    assert refused(data, "x.yaml", cycles, capfd) == ["lr_scheduler_type", "lr_scheduler_kwargs"]


def test_swift_command(data: Path) -> None:
    result, fates = convert(data, "x.sh", SWIFT, devices=2)
    flags = {word[2:] for word in SWIFT.split() if word.startswith("--")}
    assert flags <= set(fates)
    ours = FinetuneConfig.model_validate(result.settings)
    assert ours.data == [data / "talk.json", data / "more.json"]
    assert (ours.batch_rows, ours.precision, ours.weight_decay) == (2 * 16, "bf16", 0.1)
    assert (ours.lr, ours.warmup, ours.schedule) == (1e-5, 0.05, "cosine")


def test_swift_settings_in_files(data: Path) -> None:
    values = {
        "model": "m",
        "dataset": [str(data / "talk.json")],
        "tuner_type": "full",
        "output_dir": "o",
        "per_device_train_batch_size": 1,
    }
    for name, text in (("a.json", json.dumps(values)), ("a.yaml", yaml.safe_dump(values))):
        result, _ = convert(data, name, text)
        assert result.framework == "ms-swift"
        assert result.settings["batch_rows"] == 16


def test_axolotl_lora(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert refused(data, "x.yml", AXOLOTL, capfd) == ["special_tokens"]
    result, fates = convert(data, "x.yml", AXOLOTL, leave_out=("special_tokens",))
    assert set(yaml.safe_load(AXOLOTL)) <= set(fates)
    assert fates["load_in_8bit"] == fates["lora_model_dir"] == "idle"
    ours = FinetuneConfig.model_validate(result.settings)
    assert (ours.method, ours.lora_r, ours.lora_alpha, ours.lora_dropout) == ("lora", 16, 32, 0.05)
    assert ours.lora_targets == ["gate_proj", "down_proj"]
    assert ours.optimizer == "adamw8bit"
    assert ours.batch_tokens == 2 * 2 * 2048
    assert ours.data == [data / "talk.json"]


@pytest.mark.parametrize(
    ("adapter", "four", "eight", "expected"),
    [
        ("qlora", "true", "false", ("qlora", "nf4")),
        ("lora", "false", "true", ("qlora", "int8")),
        ("lora", "false", "false", ("lora", "nf4")),
    ],
)
def test_axolotl_quantised(
    data: Path, adapter: str, four: str, eight: str, expected: tuple[str, str]
) -> None:
    text = AXOLOTL.replace("adapter: lora", f"adapter: {adapter}")
    text = text.replace("load_in_8bit: false", f"load_in_8bit: {eight}")
    text = text.replace("load_in_4bit: false", f"load_in_4bit: {four}")
    result, _ = convert(data, "x.yml", text, leave_out=("special_tokens",))
    ours = FinetuneConfig.model_validate(result.settings)
    assert (ours.method, ours.quant) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("rl: dpo", {"objective": "dpo", "beta": 0.1}),
        ("rl: ipo", {"objective": "dpo", "dpo_loss": "ipo"}),
        ("rl: orpo\norpo_alpha: 0.2", {"objective": "orpo", "orpo_lambda": 0.2}),
        ("rl: simpo\ncpo_alpha: 0", {"objective": "simpo", "simpo_gamma": 0.5}),
        ("rl: kto\nkto_desirable_weight: 0.2", {"objective": "kto", "kto_desirable": 0.2}),
    ],
)
def test_axolotl_preferences(data: Path, lines: str, expected: dict[str, object]) -> None:
    result, _ = convert(data, "x.yml", f"{AXOLOTL}\n{lines}\n", leave_out=("special_tokens",))
    assert result.verb == "align"
    assert result.settings.items() >= expected.items()


def test_keys_without_their_method_have_no_effect(data: Path) -> None:
    _, fates = convert(data, "x.yaml", f"{LF_FULL}\nlora_rank: 8\n")
    assert fates["lora_rank"] == "idle"


@pytest.mark.parametrize(
    ("line", "key", "said"),
    [
        ("learning_rat: 1", "learning_rat", "did you mean `learning_rate`?"),
        ("disable_shuffling: true", "disable_shuffling", "there is nothing like it here"),
        ("optim: adafactor", "optim", "'adafactor': there is nothing like it here"),
        ("lr_scheduler_type: polynomial", "lr_scheduler_type", "there is nothing like it here"),
        ("pure_fp16: true", "pure_fp16", "kept in fp32"),
        ("use_galore: true", "use_galore", "no optimiser is like it here"),
        ("train_on_prompt: true", "train_on_prompt", "the loss is on every answer"),
        ("quantization_bit: 4", "quantization_bit", "do not learn: an adapter"),
        ("finetuning_type: freeze", "finetuning_type", "'freeze': there is nothing like it"),
        ("adapter_name_or_path: a", "adapter_name_or_path", "`tongwen model merge`"),
        ("num_train_epochs: .inf", "num_train_epochs", "not a finite number"),
        ("run_name: $NAME", "run_name", "a shell variable"),
    ],
)
def test_what_changes_the_result_is_refused(
    data: Path, capfd: pytest.CaptureFixture[str], line: str, key: str, said: str
) -> None:
    file = data.parent / "x.yaml"
    file.write_text(LF_FULL.replace("DATA", str(data)) + line, "utf-8")
    with pytest.raises(ConfigError, match=f"cannot be followed in {key}"):
        data_import_config(DataImportConfig(file=file))
    refusal = next(line for line in capfd.readouterr().err.splitlines() if "refused" in line)
    assert said in refusal
    assert not (data.parent / "ours.toml").exists()


def test_other_stages_are_refused(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = LF_FULL.replace("stage: sft", "stage: ppo")
    assert refused(data, "x.yaml", text, capfd) == ["stage"]
    result, fates = convert(data, "x.yaml", text, leave_out=("stage",))
    assert (result.verb, fates["stage"]) == ("finetune", "idle")
    with pytest.raises(ConfigError, match="`stag` of --leave-out is not in"):
        convert(data, "x.yaml", text, leave_out=("stag",))


def test_secrets_are_not_shown(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result, _ = convert(data, "x.yaml", f"{LF_FULL}\nhub_token: hf_abcdef\n")
    assert "hf_abcdef" not in capfd.readouterr().err + str(result.keys) + result.toml


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "a: [1", "is not valid YAML"),
        ("x.yaml", "a: &a [*a]", "holds values more than 20 levels deep"),
        ("x.json", "{", "is not valid JSON"),
        ("x.yaml", "- a", "holds no keys and values"),
        ("x.yaml", "learning_rate: 1", "is no config of LLaMA-Factory, ms-swift, axolotl"),
        ("x.sh", "python train.py --lr 1", "there is no `swift` command"),
        ("x.sh", "swift sft 'a", "is not a shell command"),
        ("x.sh", "swift sft model --dataset a", "'model' in"),
        ("x.yaml", "!!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_files_that_are_no_configs(data: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        convert(data, name, text)


def test_data_that_are_not_here(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = LF_FULL.replace("talk,more", "talk,mroe")
    assert refused(data, "x.yaml", text, capfd) == ["dataset"]
    swift = SWIFT.replace("DATA/more.json", "swift/self-cognition#1000")
    assert refused(data, "x.sh", swift, capfd) == ["dataset"]


def test_the_tables_name_each_key_once_and_no_converter_in_vain() -> None:
    used: set[str] = set()
    for framework in FRAMEWORKS:
        tables = (framework.taken, framework.converted, framework.idle, framework.refused)
        keys = [word for table in tables for words in table.values() for word in words.split()]
        assert sorted(keys) == sorted(set(keys)), framework.name
        assert set(framework.defaults) <= set(keys)
        assert {*framework.packing.split(), framework.length} <= set(keys)
        assert set(framework.taken) <= {*FinetuneConfig.model_fields, *AlignConfig.model_fields}
        used |= set(framework.converted)
    assert used == set(CONVERTERS)
