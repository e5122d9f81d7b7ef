"""Reward models: Bradley and Terry's loss, and a folder that transformers reads."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from tongwen.alignment.reward import reward, reward_loss
from tongwen.errors import ModelError
from tongwen.models import PACKED, load_model
from tongwen.models.flops import training_flops
from tongwen.models.reward import load_reward_model, new_reward_model
from tongwen.testing import tiny_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train.batch import Items, Whole

from .test_pairs import settings, sigmoid, step


def test_the_loss_by_hand() -> None:
    chosen = torch.tensor([2.0, -1.0], requires_grad=True)
    rejected = torch.tensor([0.5, 1.0], requires_grad=True)
    config = settings("reward", reward_margin=0.5, reward_center=0.1)
    loss = reward_loss(config, chosen, rejected, Whole(0, 1, 2))
    values = [-math.log(sigmoid(1.0)) + 0.1 * 2.5**2, -math.log(sigmoid(-2.5))]
    assert float(loss.value.detach()) == pytest.approx(sum(values) / 2)
    loss.value.backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.tolist() == pytest.approx(
        [(-sigmoid(-1.0) + 0.2 * 2.5) / 2, -sigmoid(2.5) / 2]
    )
    assert rejected.grad.tolist() == pytest.approx(
        [(sigmoid(-1.0) + 0.2 * 2.5) / 2, sigmoid(2.5) / 2]
    )
    assert loss.figures["accuracy"] == 0.5


def test_a_new_one_finds_all_answers_equal_and_learns(tmp_path: Path, pairs: Items) -> None:
    folder = tiny_model(tmp_path / "causal")
    model = new_reward_model(folder, load_tokenizer(folder))
    model.set_attn_implementation(PACKED)
    loss, figures, gradients = step(model, pairs, reward(settings("reward")), [range(6)])
    assert loss == pytest.approx(math.log(2))
    assert figures["margin"] == 0.0
    assert float(gradients["score.weight"].abs().max()) > 0
    model.load_state_dict({"score.weight": torch.linspace(-1, 1, 64)[None]}, strict=False)
    whole = step(model, pairs, reward(settings("reward")), [range(6)])
    cut = step(model, pairs, reward(settings("reward")), [[3], [0, 5], [1, 2, 4]])
    assert abs(whole[0] - cut[0]) < 1e-6
    for name, gradient in whole[2].items():
        assert float((gradient - cut[2][name]).abs().max()) < 1e-5


def test_transformers_gives_the_same_rewards(tmp_path: Path, pairs: Items) -> None:
    folder = tiny_model(tmp_path / "causal")
    tokenizer = load_tokenizer(folder)
    model = new_reward_model(folder, tokenizer)
    model.load_state_dict({"score.weight": torch.linspace(-1, 1, 64)[None]}, strict=False)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path / "judge")
    save_file(
        {name: weight.detach().contiguous() for name, weight in model.named_parameters()},
        tmp_path / "judge" / "model.safetensors",
        metadata={"format": "pt"},
    )
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "judge")
    longest = int(pairs.lengths.max())
    ids_BT = torch.full((12, longest), tokenizer.pad_token_id)
    for n in range(12):
        ids_BT[n, : pairs.lengths[n]] = torch.from_numpy(pairs.ids(n))
    with torch.no_grad():
        expected = theirs(input_ids=ids_BT, attention_mask=ids_BT != tokenizer.pad_token_id).logits
    ours = load_reward_model(tmp_path / "judge", torch.float32)
    ours.set_attn_implementation(PACKED)
    _, figures, _ = step(ours, pairs, reward(settings("reward")), [range(6)])
    assert figures["reward_chosen"] == pytest.approx(float(expected[0::2].mean()), abs=1e-5)
    assert figures["reward_rejected"] == pytest.approx(float(expected[1::2].mean()), abs=1e-5)


def test_a_language_model_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no reward model: its architecture is LlamaForCausal"):
        load_reward_model(tiny_model(tmp_path), torch.float32)


def test_its_work_is_counted_without_a_head_that_speaks(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    causal = load_model(folder, torch.float32)
    judge = new_reward_model(folder, load_tokenizer(folder))
    # The head that scores is a row of the hidden width.
    per_token = training_flops(judge, [1], 0) - 6 * 64
    assert training_flops(judge, [1], 1) - 6 * 64 == per_token
    assert training_flops(causal, [1], 0) == per_token
