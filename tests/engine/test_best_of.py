"""The best of several answers: whose judgement it is, and that it is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tongwen.config import ChatConfig
from tongwen.engine import Sampling, best_of
from tongwen.engine.candidates import BestOf, RewardModel
from tongwen.engine.local import LocalEngine
from tongwen.errors import ConfigError
from tongwen.messages import Conversation, Message, render
from tongwen.models.reward import new_reward_model
from tongwen.tokenizer import load_tokenizer, save_tokenizer

QUESTION = [Message("user", "hi")]
VARIED = Sampling(max_new_tokens=6, temperature=1.0, top_p=1.0, seed=3)


class Longest(RewardModel):
    """Likes long answers."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def scores(self, _: Sequence[Message], answers: Sequence[str]) -> list[float]:
        self.seen += answers
        return [float(len(answer)) for answer in answers]


def test_the_best_is_the_one_the_judge_likes(engine: LocalEngine) -> None:
    judge = Longest()
    generation = BestOf(engine, judge, 5).stream(QUESTION, VARIED)
    answer = "".join(generation)
    assert len(set(judge.seen)) > 1
    assert len(judge.seen) == 5
    assert answer == max(judge.seen, key=len)
    assert generation.finish in ("stop", "length")
    assert 1 <= generation.tokens <= 6
    assert "".join(BestOf(engine, Longest(), 5).stream(QUESTION, VARIED)) == answer


def test_without_chance_there_is_nothing_to_choose(engine: LocalEngine) -> None:
    with pytest.raises(ConfigError, match="temperature is 0"):
        BestOf(engine, Longest(), 2).stream(QUESTION, Sampling(temperature=0.0))


def test_rewards_are_those_of_transformers(
    engine: LocalEngine, model_folder: Path, tmp_path: Path
) -> None:
    """What a folder's model says of the last token of the conversation as it is trained on."""
    tokenizer = load_tokenizer(model_folder)
    model = new_reward_model(model_folder, tokenizer)
    model.load_state_dict({"score.weight": torch.linspace(-1, 1, 64)[None]}, strict=False)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    weights = {name: weight.detach().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(tokenizer, tmp_path)
    judge = best_of(engine, tmp_path, 2)._judge
    answers = ["hello", "", "你好"]
    scores = judge.scores(QUESTION, answers)
    assert scores[1] == float("-inf")
    model.set_attn_implementation("eager")
    for answer, score in zip(answers, scores, strict=True):
        if answer:
            rendered = render(Conversation((*QUESTION, Message("assistant", answer))), tokenizer)
            with torch.no_grad():
                expected = model(input_ids=torch.tensor([rendered.ids])).logits
            assert score == pytest.approx(float(expected), abs=1e-5)


def test_settings_that_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="best_of above 1 and reward go together"):
        ChatConfig(model=Path("m"), best_of=4)
    with pytest.raises(ValueError, match="with raw there are none"):
        ChatConfig(model=Path("m"), best_of=4, reward=Path("r"), raw=True)
