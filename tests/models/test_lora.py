"""LoRA, rsLoRA and DoRA: PEFT's numbers, and the same ones however rows are packed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.adapters import items, llama, loss, packed_logits, stir
from torch import Tensor
from transformers import LlamaForCausalLM

from tongwen.config import AdapterConfig
from tongwen.errors import ConfigError
from tongwen.models.adapter import adapt
from tongwen.models.adapter_folder import own_name, peft_name
from tongwen.models.lora import LoraLinear
from tongwen.models.merge import merge

VARIANTS = {
    "lora": {"lora_targets": ["q_proj", "v_proj"]},
    "all-linear": {},
    "rslora": {"rslora": True, "lora_alpha": 5.0},
    "dora": {"dora": True},
    "with the head": {"modules_to_save": ["lm_head"]},
}


def adapted(changes: dict[str, Any]) -> LlamaForCausalLM:
    model = llama()
    adapt(model, AdapterConfig(method="lora", lora_r=4, **changes), seed=0)
    stir(model)
    return model


def gradients(model: LlamaForCausalLM) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
def test_logits_and_gradients_are_those_of_peft(changes: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft")
    ours = adapted(changes)
    config = AdapterConfig(method="lora", lora_r=4, **changes)
    theirs = peft.get_peft_model(
        llama(),
        peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=4,
            lora_alpha=config.lora_alpha,
            use_rslora=config.rslora,
            use_dora=config.dora,
            modules_to_save=config.modules_to_save or None,
            target_modules=(
                "all-linear" if config.lora_targets == ["all-linear"] else config.lora_targets
            ),
        ),
    )
    learning = {n: p for n, p in theirs.named_parameters() if p.requires_grad}
    ours_learning = {n: p for n, p in ours.named_parameters() if p.requires_grad}
    names = {_own(name): name for name in learning}
    assert sorted(names) == sorted(ours_learning)
    for name, parameter in ours_learning.items():
        learning[names[name]].data.copy_(parameter.data)
    parts = items([7, 19, 30])
    logits = packed_logits(ours, parts)
    expected = torch.cat([theirs(input_ids=part[None]).logits[0] for part in parts])
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)
    (loss(logits) / len(logits)).backward()
    (loss(expected) / len(logits)).backward()
    for name, gradient in gradients(ours).items():
        torch.testing.assert_close(gradient, learning[names[name]].grad, atol=1e-6, rtol=0.0)


def _own(name: str) -> str:
    for inner in (".default", ".modules_to_save"):
        name = name.replace(inner, "")
    return own_name(name)


def test_it_begins_as_the_model_it_was_made_from() -> None:
    parts = items([9, 20])
    expected = packed_logits(llama(), parts)
    for dora in (False, True):
        model = llama()
        adapt(model, AdapterConfig(method="lora", dora=dora), seed=0)
        torch.testing.assert_close(packed_logits(model, parts), expected, atol=2e-6, rtol=0)


def test_first_weights_follow_from_the_seed_and_the_name() -> None:
    def first(seed: int, targets: list[str]) -> dict[str, Tensor]:
        model = llama()
        adapt(model, AdapterConfig(method="lora", lora_targets=targets), seed)
        return {n: p.detach() for n, p in model.named_parameters() if n.endswith("lora_A")}

    few, many, other = first(3, ["v_proj"]), first(3, ["all-linear"]), first(4, ["v_proj"])
    assert len(few) == 2
    assert len(many) == 14
    for name, weight in few.items():
        assert torch.equal(weight, many[name])
        assert not torch.equal(weight, other[name])
        assert weight.abs().max() <= 64**-0.5
        assert weight.std() == pytest.approx(64**-0.5 / 3**0.5, rel=0.1)
    assert len({float(weight[0, 0]) for weight in many.values()}) == 14


@pytest.mark.parametrize("changes", [{"lora_dropout": 0.3}, {"dora": True}, {"neftune": 5.0}])
def test_nothing_depends_on_how_items_are_packed(changes: dict[str, Any]) -> None:
    parts = items([7, 40, 3, 19])
    lengths = [len(part) for part in parts]
    whole, cut = llama(), llama()
    config = AdapterConfig(method="lora", **changes)
    draws = [adapt(model, config, seed=0) for model in (whole, cut)]
    stir(whole)
    stir(cut)
    draws[0].begin(6, [10, 11, 12, 13], lengths)
    expected = packed_logits(whole, parts)
    _loss_by_item(expected, lengths).backward()
    # Another order, one item at a time or two.
    rows = [[3], [1, 0], [2]]
    logits: dict[int, Tensor] = {}
    for row in rows:
        draws[1].begin(6, [10 + place for place in row], [lengths[place] for place in row])
        made = packed_logits(cut, [parts[place] for place in row])
        _loss_by_item(made, [lengths[place] for place in row]).backward()
        logits |= dict(zip(row, made.split([lengths[p] for p in row]), strict=True))
    torch.testing.assert_close(
        torch.cat([logits[place] for place in range(4)]), expected, atol=2e-6, rtol=1e-5
    )
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(cut)[name], gradient, atol=1e-6, rtol=1e-5)
    draws[0].begin(7, [10, 11, 12, 13], lengths)
    again = packed_logits(whole, parts)
    moved = (again - expected).abs().max() > 1e-3
    assert moved == (not config.dora), "another step draws other numbers, and DoRA none"


def _loss_by_item(logits_TV: Tensor, lengths: list[int]) -> Tensor:
    return torch.stack([loss(part) for part in logits_TV.split(lengths)]).sum() / 69


def test_recomputing_activations_draws_the_same_masks() -> None:
    parts = items([30, 12])
    found = []
    for recompute in (False, True):
        model = llama()
        draws = adapt(model, AdapterConfig(method="lora", lora_dropout=0.5), seed=0)
        stir(model)
        if recompute:
            model.gradient_checkpointing_enable()
            model.train()
        draws.begin(0, [0, 1], [30, 12])
        loss(packed_logits(model, parts)).backward()
        found.append(gradients(model))
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name


def test_evaluation_sees_neither_dropout_nor_noise() -> None:
    parts = items([30, 12])
    still, model = llama(), llama()
    adapt(still, AdapterConfig(method="lora"), seed=0)
    draws = adapt(model, AdapterConfig(method="lora", lora_dropout=0.5, neftune=5.0), seed=0)
    stir(still)
    stir(model)
    draws.begin(0, [0, 1], [30, 12])
    with torch.no_grad():
        assert torch.equal(packed_logits(model, parts), packed_logits(still, parts))
    assert not torch.equal(packed_logits(model, parts), packed_logits(still, parts))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
def test_a_merged_model_says_the_same(changes: dict[str, Any]) -> None:
    model = adapted(changes)
    parts = items([25, 8])
    before = packed_logits(model, parts)
    merge(model, torch.float32)
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in llama().named_parameters()]
    torch.testing.assert_close(packed_logits(model, parts), before, atol=5e-6, rtol=0)


def test_names_go_to_peft_and_back() -> None:
    for name in ("model.layers.0.mlp.up_proj.lora_A", "lm_head.weight", "a.b.magnitude"):
        assert own_name(peft_name(name)) == name
    assert peft_name("a.q_proj.lora_B") == "base_model.model.a.q_proj.lora_B.weight"


def test_a_target_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="no linear layer named `W_pack`") as error:
        adapt(llama(), AdapterConfig(method="lora", lora_targets=["q_proj", "W_pack"]), seed=0)
    assert "`q_proj`, `k_proj`, `v_proj`, `o_proj`" in str(error.value.hint)
    with pytest.raises(ConfigError, match="no layer with weights named `embeddings`"):
        adapt(llama(), AdapterConfig(method="lora", modules_to_save=["embeddings"]), seed=0)


def test_frozen_layers_do_not_learn() -> None:
    model = llama(tie_word_embeddings=True)
    adapt(model, AdapterConfig(freeze_layers=1, freeze_embeddings=True), seed=0)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in learning if not name.startswith("model.layers.1.")} == {
        "model.norm.weight"
    }
    with pytest.raises(ConfigError, match="more than the 2 layers"):
        adapt(llama(), AdapterConfig(freeze_layers=3), seed=0)
