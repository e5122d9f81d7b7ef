"""A small model whose weights are a formula, and pairs of random answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tongwen.data import KINDS, TokenStore
from tongwen.data.shards import INDEX
from tongwen.models import PACKED
from tongwen.train.batch import Items

VOCABULARY, WINDOW = 97, 64
Pair = list[tuple[np.ndarray, np.ndarray]]


def formula_model(seed: int) -> PreTrainedModel:
    """Weights drawn in the order of their names, so that other libraries can make the same ones."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=WINDOW,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        model = LlamaForCausalLM(config)
    source = np.random.default_rng(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            scale = 0.2 if weight.ndim == 2 else 0.1
            drawn = source.standard_normal(weight.shape) * scale + (weight.ndim == 1)
            weight.copy_(torch.from_numpy(drawn).float())
    model.set_attn_implementation(PACKED)
    return model


def random_pairs() -> list[Pair]:
    """Six prompts, each with a chosen and a rejected answer."""
    source = np.random.default_rng(5)
    made = []
    for _ in range(6):
        prompt = source.integers(3, 97, source.integers(3, 9))
        made.append([(prompt, source.integers(3, 97, source.integers(2, 12))) for _ in range(2)])
    return made


def items_of(answers: Sequence[tuple[np.ndarray, np.ndarray]], kinds: Sequence[str]) -> Items:
    """Items of prompts and answers, of which the answers carry loss; kinds in turn."""
    index = np.zeros(len(answers), dtype=INDEX)
    index["end"] = np.cumsum([len(prompt) + len(answer) for prompt, answer in answers])
    index["kind"] = [KINDS.index(kinds[n % len(kinds)]) for n in range(len(answers))]
    ids = np.concatenate([np.concatenate(both) for both in answers]).astype(np.uint16)
    mask = np.concatenate([[False] * len(p) + [True] * len(a) for p, a in answers])
    return Items([TokenStore(ids, mask, index)])


@pytest.fixture(scope="session")
def pairs() -> Items:
    """The pairs as items: chosen and rejected in turn."""
    return items_of([side for pair in random_pairs() for side in pair], ("chosen", "rejected"))


@pytest.fixture
def policy() -> PreTrainedModel:
    return formula_model(1)


@pytest.fixture(scope="session")
def reference_logps(pairs: Items) -> torch.Tensor:
    """log p of every item under another model, item by item and without packing."""
    model = formula_model(2)
    model.set_attn_implementation("eager")
    return torch.stack([plain_logp(model, pairs, item) for item in range(len(pairs))]).detach()


def plain_logp(model: PreTrainedModel, items: Items, item: int) -> torch.Tensor:
    """log p of an answer as the definition has it."""
    ids = torch.from_numpy(items.ids(item))
    logp = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    trained = [place for place in range(1, len(ids)) if items.mask(item)[place]]
    return torch.stack([logp[place - 1, ids[place]] for place in trained]).sum()
