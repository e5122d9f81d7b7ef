"""Prefix tuning: PEFT's numbers for items alone, the same ones side by side, and in generation."""

from __future__ import annotations

import pytest
import torch
from tests.models.adapters import items, llama, loss, packed_logits
from torch import Tensor
from transformers import LlamaForCausalLM

from tongwen.config import AdapterConfig
from tongwen.engine import Sampling
from tongwen.engine.decode import decode
from tongwen.models.adapter import adapt
from tongwen.models.adapter_folder import PREFIX_KEY, peft_weights

TOKENS = 5


def prefixed() -> LlamaForCausalLM:
    model = llama()
    adapt(model, AdapterConfig(method="prefix", prefix_tokens=TOKENS), seed=0)
    return model


def learning(model: LlamaForCausalLM) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_logits_and_gradients_are_those_of_peft() -> None:
    peft = pytest.importorskip("peft")
    ours = prefixed()
    theirs = peft.get_peft_model(
        llama(), peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS)
    )
    matrix = theirs.prompt_encoder.default.embedding.weight
    matrix.data.copy_(peft_weights(ours, learning(ours))[PREFIX_KEY])
    parts = items([1, 19, 30])
    logits = packed_logits(ours, parts)
    expected = torch.cat([theirs(input_ids=part[None]).logits[0] for part in parts])
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)
    (loss(logits) / 50).backward()
    (loss(expected) / 50).backward()
    gradients = {name: p.grad for name, p in learning(ours).items() if p.grad is not None}
    assert len(gradients) == 4
    found = peft_weights(ours, gradients)[PREFIX_KEY]
    torch.testing.assert_close(found, matrix.grad, atol=1e-6, rtol=0.0)


def test_every_item_of_a_row_sees_the_prefix_and_nothing_else_of_the_row() -> None:
    parts = items([7, 40, 3, 19, 150])
    model = prefixed()
    logits = packed_logits(model, parts)
    alone = torch.cat([packed_logits(model, [part]) for part in parts])
    torch.testing.assert_close(logits, alone, atol=2e-6, rtol=1e-5)
    without = packed_logits(llama(), parts)
    assert (logits - without).abs().amax(1).min() > 1e-3, "no token passes the prefix over"


def test_generation_goes_on_as_the_whole_text_would() -> None:
    model = prefixed()
    prompts = [part.tolist() for part in items([4, 9])]
    packed_logits(model, items([3]))  # leaves the attention of training behind
    sampling = Sampling(max_new_tokens=6, temperature=0.0)
    made: list[list[int]] = [[], []]
    for token in decode(model, prompts, sampling, 64, frozenset()):
        made[token.prompt].append(token.id)
    for prompt, answer in zip(prompts, made, strict=True):
        logits = packed_logits(model, [torch.tensor(prompt + answer)])
        assert logits.argmax(1).tolist()[len(prompt) - 1 : -1] == answer


def test_the_first_prefix_follows_from_the_seed() -> None:
    first, second = ({n: p.detach() for n, p in learning(prefixed()).items()} for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert len({float(weight.flatten()[0]) for weight in first.values()}) == 4
    assert torch.cat([weight.flatten() for weight in first.values()]).std() == pytest.approx(
        1.0, abs=0.1
    )
