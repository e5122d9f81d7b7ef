"""GRPO: its formulas, answers that follow from the seed, and rewards that rise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tongwen import align
from tongwen.alignment.grpo import advantages, grpo
from tongwen.alignment.rollouts import answer_seed
from tongwen.config import AlignConfig, DataPrepareConfig
from tongwen.data import data_prepare
from tongwen.engine import Sampling, load_engine
from tongwen.testing import tiny_model
from tongwen.train.batch import Batch, Items, Whole, pack
from tongwen.train.run import read_metrics

from .conftest import plain_logp
from .test_pairs import settings
from .test_run import write


def test_advantages_by_hand() -> None:
    rewards = np.array([1.0, 0.0, 0.0, 1.0])
    assert advantages(rewards, scale=False).tolist() == [0.5, -0.5, -0.5, 0.5]
    deviation = math.sqrt(1 / 3)
    assert advantages(rewards, scale=True).tolist() == pytest.approx(
        [sign * 0.5 / (deviation + 1e-4) for sign in (1, -1, -1, 1)]
    )
    assert advantages(np.ones(4), scale=True).tolist() == [0.0] * 4


def rollouts(items: Items, numbers: list[int]) -> Batch:
    """Items as answers whose advantages are 1, -2, 3, … by their numbers."""
    batch = items.batch(np.array(numbers))
    batch.values["advantage"] = torch.tensor([(-1.0) ** n * (n + 1) for n in numbers])
    batch.values["reward"] = torch.tensor([float(n) for n in numbers])
    return batch


@pytest.mark.parametrize("norm", ["answer", "token", "constant"])
def test_the_first_update_follows_the_policy_gradient(
    policy: PreTrainedModel, pairs: Items, norm: str
) -> None:
    """With answers of the model as it is the gradient is that of Σ advantage · log p, weighted."""
    config = settings("grpo", grpo_norm=norm, grpo_tokens=20)
    whole = Whole(0, sum(pairs.trained(n) for n in range(6)), 6)
    for rows in ([[0, 1, 2, 3, 4, 5]], [[4], [2, 0, 5], [1, 3]]):
        policy.zero_grad()
        for row in rows:
            loss = grpo(config)(policy, rollouts(pairs, row), whole)
            loss.value.backward()
        got = policy.get_output_embeddings().weight.grad.clone()
        policy.zero_grad()
        policy.set_attn_implementation("eager")
        for n in range(6):
            weight = {
                "answer": 1 / (pairs.trained(n) * 6),
                "token": 1 / whole.trained,
                "constant": 1 / (6 * 20),
            }[norm]
            (-((-1.0) ** n) * (n + 1) * weight * plain_logp(policy, pairs, n)).backward()
        expected = policy.get_output_embeddings().weight.grad.clone()
        policy.set_attn_implementation("tongwen_packed")
        assert float((got - expected).abs().max()) < 1e-5


def test_clipping_and_the_divergence_by_hand(policy: PreTrainedModel) -> None:
    """One answer of three tokens with ratios 2, 1/2 and 1.1 to what they were drawn with."""
    ids, mask = np.array([5, 6, 7, 8]), np.array([False, True, True, True])
    for advantage, counted, clipped in ((2.0, (1.2, 0.5, 1.1), 1), (-2.0, (2.0, 0.8, 1.1), 1)):
        batch = pack([ids], [mask], np.array([0]))
        with torch.no_grad():
            logp = policy(input_ids=batch.ids_T[None], packing=batch.packing).logits[0]
            now = logp.log_softmax(-1)[:3].gather(1, batch.target_K[:, None])[:, 0]
        batch.values["advantage"] = torch.tensor([advantage])
        batch.values["reward"] = torch.tensor([1.0])
        batch.values["old"] = now - torch.tensor([2.0, 0.5, 1.1]).log()
        batch.values["reference"] = now + torch.tensor([0.0, 1.0, -1.0])
        loss = grpo(settings("grpo", beta=0.5))(policy, batch, Whole(0, 3, 1))
        kl = (math.e - 2 + math.exp(-1)) / 3
        gain = advantage * sum(counted) / 3
        assert float(loss.value.detach()) == pytest.approx(0.5 * kl - gain, rel=1e-4)
        assert loss.figures["kl"] == pytest.approx(kl, rel=1e-4)
        assert loss.figures["clipped"] == pytest.approx(clipped / 3)


def test_seeds_are_apart() -> None:
    keys = [(s, t, i, n) for s in range(3) for t in range(3) for i in range(3) for n in range(3)]
    seeds = {answer_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert answer_seed(1, 2, 3, 4) == answer_seed(1, 2, 3, 4)


def test_answers_have_seeds_of_their_own(tmp_path: Path) -> None:
    """Each as it would be alone; equal seeds give equal answers, others do not."""
    engine = load_engine(tiny_model(tmp_path))
    sampling = Sampling(max_new_tokens=12, temperature=1.0, top_p=1.0)
    prompts = [[5, 6, 7], [5, 6, 7], [9, 10], [5, 6, 7]]
    together = engine.continuations(prompts, sampling, [1, 2, 3, 1])
    assert together[0] == together[3] != together[1]
    for prompt, seed, answer in zip(prompts, [1, 2, 3, 1], together, strict=True):
        assert engine.continuations([prompt], sampling, [seed]) == [answer]


def test_the_reward_rises(tmp_path: Path) -> None:
    """A random model learns to begin its answers with the digit that is asked for."""
    model = tiny_model(tmp_path / "model")
    source = write(
        tmp_path / "tasks.jsonl",
        ({"question": f"A digit, please ({n})", "answer": "7"} for n in range(30)),
    )
    data_prepare(
        DataPrepareConfig(
            sources=[source], out=tmp_path / "data", tokenizer=model, max_length=64, hold_out=0.2
        )
    )
    config = AlignConfig(
        model=model, data=[tmp_path / "data"], out=tmp_path / "out", objective="grpo", steps=30,
        verify=["contains"], grpo_group=16, grpo_tokens=3, grpo_norm="token", batch_tokens=2000,
        micro_batch_tokens=2000, lr=3e-3, warmup=0.0, threads=1, precision="fp32", eval_every=30,
    )  # fmt: skip
    result = align(config)
    records = read_metrics(tmp_path / "out" / "metrics.jsonl")
    rewards = [record["reward"] for record in records if "reward" in record]
    assert np.mean(rewards[:3]) < 0.3
    assert np.mean(rewards[-3:]) > 0.8
    assert result.held_out["held_out_reward"] > 0.8
