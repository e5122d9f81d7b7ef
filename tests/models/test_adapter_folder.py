"""Adapters on disk: PEFT's format in both directions, merged when loaded, on their base alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.adapters import items, llama, packed_logits, stir
from transformers import PreTrainedModel

from tongwen.config import AdapterConfig, ModelMergeConfig
from tongwen.errors import ConfigError, ModelError
from tongwen.models import context_window, load_base, load_model, resolve_model
from tongwen.models.adapter import adapt
from tongwen.models.adapter_folder import read_settings
from tongwen.models.merge import load_attached
from tongwen.models.merged import model_merge
from tongwen.tokenizer import train_tokenizer
from tongwen.train.adapters import AdapterFolder

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "lora_targets": ["q_proj", "up_proj"]},
    "rslora": {"method": "lora", "rslora": True, "lora_r": 3},
    "dora": {"method": "lora", "dora": True},
    "embeddings": {"method": "lora", "modules_to_save": ["embed_tokens"]},
    "norm": {"method": "lora", "modules_to_save": ["model.norm"]},
    "prefix": {"method": "prefix", "prefix_tokens": 4},
}
PARTS = items([12, 30])


def saved(
    folder: Path, base: Path, changes: dict[str, Any], **shape: Any
) -> tuple[PreTrainedModel, AdapterFolder]:
    """A base model at `base`, and an adapter over it in `folder`."""
    llama(**shape).save_pretrained(base)
    config = AdapterConfig(**changes)
    model = load_base(base, config)
    adapt(model, config, seed=0)
    stir(model)
    tokenizer = train_tokenizer(["天地玄黄 heaven and earth"], 300)
    form = AdapterFolder(model, config, base, tokenizer)
    folder.mkdir(parents=True)
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    form.write(folder, weights)
    return model, form


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("changes", KINDS.values(), ids=list(KINDS))
def test_peft_says_the_same_of_our_folders(
    tmp_path: Path, changes: dict[str, Any], tied: bool
) -> None:
    peft = pytest.importorskip("peft")
    ours, _ = saved(tmp_path / "a", tmp_path / "base", changes, tie_word_embeddings=tied)
    theirs = peft.PeftModel.from_pretrained(llama(tie_word_embeddings=tied), str(tmp_path / "a"))
    expected = torch.cat([theirs(input_ids=part[None]).logits[0] for part in PARTS])
    torch.testing.assert_close(packed_logits(ours, PARTS), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("changes", KINDS.values(), ids=list(KINDS))
def test_a_loaded_adapter_is_the_trained_one(
    tmp_path: Path, changes: dict[str, Any], tied: bool
) -> None:
    trained, form = saved(tmp_path / "a", tmp_path / "base", changes, tie_word_embeddings=tied)
    loaded = load_model(tmp_path / "a", torch.float32)
    torch.testing.assert_close(
        packed_logits(loaded, PARTS), packed_logits(trained, PARTS), atol=5e-6, rtol=1e-5
    )
    learning = {name: p for name, p in trained.named_parameters() if p.requires_grad}
    again = form.read(tmp_path / "a")
    assert again.keys() == learning.keys()
    assert all(torch.equal(again[name], learning[name]) for name in again)
    assert context_window(tmp_path / "a") == 256


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_a_qlora_adapter_is_merged_into_the_weights_it_was_trained_over(
    tmp_path: Path, quant: str
) -> None:
    trained, _ = saved(
        tmp_path / "a", tmp_path / "base", {"method": "qlora", "quant": quant, "dora": True}
    )
    loaded = load_model(tmp_path / "a", torch.float32)
    torch.testing.assert_close(
        packed_logits(loaded, PARTS), packed_logits(trained, PARTS), atol=5e-6, rtol=1e-5
    )


def test_bf16_rounds_the_merged_weights_once(tmp_path: Path) -> None:
    saved(tmp_path / "a", tmp_path / "base", KINDS["lora"])
    fine = load_model(tmp_path / "a", torch.float32)
    coarse = load_model(tmp_path / "a", torch.bfloat16)
    for name, parameter in coarse.named_parameters():
        assert torch.equal(parameter, fine.get_parameter(name).to(torch.bfloat16)), name


@pytest.mark.parametrize("kind", ["lora", "dora", "patterns", "prefix"])
def test_peft_folders_are_read(tmp_path: Path, kind: str) -> None:
    peft = pytest.importorskip("peft")
    llama().save_pretrained(tmp_path / "base")
    config = (
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        if kind == "prefix"
        else peft.LoraConfig(
            task_type="CAUSAL_LM",
            target_modules=r".*\.(q|up)_proj",
            use_dora=kind == "dora",
            modules_to_save=["lm_head"],
            rank_pattern={"up_proj": 3} if kind == "patterns" else {},
            alpha_pattern={"layers.1.mlp.up_proj": 20} if kind == "patterns" else {},
        )
    )
    theirs = peft.get_peft_model(llama(), config)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05
    theirs.save_pretrained(tmp_path / "a")
    _change(tmp_path / "a", base_model_name_or_path=str(tmp_path / "base"))
    expected = torch.cat([theirs(input_ids=part[None]).logits[0] for part in PARTS])
    for model in (load_attached(tmp_path / "a"), load_model(tmp_path / "a", torch.float32)):
        torch.testing.assert_close(packed_logits(model, PARTS), expected, atol=1e-5, rtol=1e-5)


def test_another_base_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a", tmp_path / "base", KINDS["lora"])
    other = llama()
    other.model.norm.weight.data[0] += 1e-6
    other.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match="was trained on another model than the one in") as error:
        load_model(tmp_path / "a", torch.float32)
    assert "sha256" in str(error.value.hint)
    (tmp_path / "base" / "config.json").unlink()
    with pytest.raises(ModelError, match=r"the base model of the adapter in .* is not at"):
        load_model(tmp_path / "a", torch.float32)


def test_no_tensor_of_an_adapter_is_passed_over(tmp_path: Path) -> None:
    saved(tmp_path / "a", tmp_path / "base", KINDS["lora"])
    path = tmp_path / "a" / "adapter_model.safetensors"
    whole = load_file(path)
    front = "base_model.model.model.layers.0"
    for key, tensor, said in [
        (f"{front}.self_attn.q_proj.bias", torch.zeros(64), r"q_proj\.bias .* no place for it"),
        (f"{front}.attn.c.lora_A.weight", torch.zeros(8, 64), r"changes .*attn\.c, which"),
        (
            f"{front}.self_attn.q_proj.lora_B.weight",
            torch.zeros(9, 8),
            r"\[9, 8\], and .*\[64, 8\]",
        ),
        (f"{front}.input_layernorm.lora_A.weight", torch.zeros(8, 64), "is no linear layer"),
    ]:
        save_file({**whole, key: tensor}, path)
        with pytest.raises(ModelError, match=said):
            load_model(tmp_path / "a", torch.float32)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load_model(tmp_path / "a", torch.float32)


def test_kinds_that_are_not_supported_are_named(tmp_path: Path) -> None:
    saved(tmp_path / "a", tmp_path / "base", KINDS["lora"])
    _change(tmp_path / "a", init_lora_weights="pissa")
    with pytest.raises(ModelError, match="began as pissa"):
        load_model(tmp_path / "a", torch.float32)
    _change(tmp_path / "a", peft_type="LOHA")
    with pytest.raises(ModelError, match="of the kind LOHA"):
        load_model(tmp_path / "a", torch.float32)
    (tmp_path / "a" / "adapter_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"adapter_config\.json is damaged"):
        load_model(tmp_path / "a", torch.float32)


@pytest.mark.parametrize("saved_modules", [["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_embeddings_that_peft_untied_are_read(tmp_path: Path, saved_modules: list[str]) -> None:
    peft = pytest.importorskip("peft")
    llama(tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    theirs = peft.get_peft_model(
        llama(tie_word_embeddings=True),
        peft.LoraConfig(
            task_type="CAUSAL_LM", target_modules=["q_proj"], modules_to_save=saved_modules
        ),
    )
    for place, parameter in enumerate(theirs.parameters()):
        if parameter.requires_grad:
            parameter.data += 0.01 * place
    theirs.save_pretrained(tmp_path / "a")
    _change(tmp_path / "a", base_model_name_or_path=str(tmp_path / "base"))
    expected = torch.cat([theirs(input_ids=part[None]).logits[0] for part in PARTS])
    model = load_model(tmp_path / "a", torch.float32)
    torch.testing.assert_close(packed_logits(model, PARTS), expected, atol=1e-5, rtol=1e-5)


def test_a_merged_folder_is_measured_against_the_adapter(tmp_path: Path) -> None:
    trained, _ = saved(tmp_path / "a", tmp_path / "base", KINDS["dora"])
    exact = model_merge(ModelMergeConfig(adapter=tmp_path / "a", out=tmp_path / "exact"))
    rounded = model_merge(
        ModelMergeConfig(adapter=tmp_path / "a", out=tmp_path / "rounded", precision="bf16")
    )
    assert exact.max_logit_difference < 1e-5
    assert exact.same_top == 1.0
    assert abs(exact.mean_kl) < 1e-9
    assert 1e-3 < rounded.max_logit_difference < 1e-2
    assert 1e-8 < rounded.mean_kl < 1e-5
    verified = json.loads((tmp_path / "rounded" / "verify.json").read_text(encoding="utf-8"))
    assert verified["mean_kl"] == rounded.mean_kl
    model = load_model(tmp_path / "exact", torch.float32)
    torch.testing.assert_close(
        packed_logits(model, PARTS), packed_logits(trained, PARTS), atol=5e-6, rtol=1e-5
    )
    for wrong, said in [(tmp_path / "base", "is no adapter"), (tmp_path / "p", "is a prefix")]:
        if wrong.name == "p":
            saved(wrong, tmp_path / "base", KINDS["prefix"])
        with pytest.raises(ModelError, match=said):
            model_merge(ModelMergeConfig(adapter=wrong, out=tmp_path / "never"))
    assert not (tmp_path / "never").exists()


def test_an_adapter_is_no_base_for_another(tmp_path: Path) -> None:
    saved(tmp_path / "run" / "final", tmp_path / "base", KINDS["lora"])
    assert resolve_model(tmp_path / "run") == tmp_path / "run" / "final"
    with pytest.raises(ConfigError, match="trained over a whole model"):
        load_base(tmp_path / "run", AdapterConfig(method="lora"))


def test_names_of_layers_are_written_short_where_they_mean_the_same(tmp_path: Path) -> None:
    saved(tmp_path / "a", tmp_path / "base", KINDS["lora"])
    assert read_settings(tmp_path / "a")["target_modules"] == ["q_proj", "up_proj"]
    one = {"method": "lora", "lora_targets": ["layers.0.self_attn.q_proj"]}
    saved(tmp_path / "b", tmp_path / "base", one)
    assert read_settings(tmp_path / "b")["target_modules"] == ["model.layers.0.self_attn.q_proj"]


def _change(folder: Path, **settings: Any) -> None:
    path = folder / "adapter_config.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(old | settings), encoding="utf-8")
