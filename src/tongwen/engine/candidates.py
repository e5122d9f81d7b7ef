"""The best of several answers, by the judgement of a reward model.

An engine like any other: an answer costs as many times more as there are candidates, and comes in
one piece, since it is known only when all of them are there (best-of-n; Stiennon et al. 2020,
arXiv:2009.01325; Nakano et al. 2021, arXiv:2112.09332).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.engine.local import LocalEngine
from tongwen.engine.protocol import Finish, Generation, Sampling, Token
from tongwen.errors import ConfigError, DataError
from tongwen.messages import Conversation, Limits, Message, fit, render_prompt
from tongwen.models import PACKED, Packing
from tongwen.models.device import placed
from tongwen.models.reward import load_reward_model, reward_scores
from tongwen.tokenizer import load_tokenizer


class RewardModel:
    """Says how good an answer is: any number, larger is better."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._limits = Limits(int(model.config.max_position_embeddings))
        model.set_attn_implementation(PACKED)

    def scores(self, messages: Sequence[Message], answers: Sequence[str]) -> list[float]:
        """The reward of each answer to the messages; -inf for one that no template can hold."""
        return [self._score(messages, answer) for answer in answers]

    def _score(self, messages: Sequence[Message], answer: str) -> float:
        context = tuple(replace(message, trained=False) for message in messages)
        conversation = Conversation((*context, Message("assistant", answer)))
        try:
            ids = fit(conversation, self._tokenizer, self._limits)[-1].rendered.ids
        except DataError:
            return -math.inf
        device, length = self._model.device, len(ids)
        ids_T, position_T = torch.tensor(ids, device=device), torch.arange(length, device=device)
        packing = Packing.of([length]).to(device)
        with torch.no_grad():
            [score] = reward_scores(self._model, ids_T, position_T, packing, position_T[-1:])
        return float(score)


class BestOf:
    """An engine that gives the best of `count` answers."""

    def __init__(self, engine: LocalEngine, judge: RewardModel, count: int) -> None:
        self._engine = engine
        self._judge = judge
        self._count = count

    @property
    def context(self) -> int:
        """The model's context window in tokens."""
        return self._engine.context

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The best answer to a conversation, in one piece."""
        _check_varied(sampling)
        return Generation(self.count(messages), self._tokens(messages, sampling))

    def complete(self, text: str, sampling: Sampling) -> Generation:
        """What follows plain text, which is not judged."""
        return self._engine.complete(text, sampling)

    def answer(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[str]:
        """The best answer to each conversation."""
        return ["".join(self.stream(messages, sampling)) for messages in conversations]

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make."""
        return self._engine.count(messages)

    def _tokens(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> Generator[Token, None, None]:
        prompt = render_prompt(messages, self._engine.tokenizer)
        seeds = np.random.SeedSequence(sampling.seed).generate_state(self._count).tolist()
        candidates = self._engine.continuations([prompt] * self._count, sampling, seeds)
        texts = [self._engine.text(prompt, ids) for ids in candidates]
        scores = self._judge.scores(messages, texts)
        best = scores.index(max(scores))
        finish: Finish = "stop" if candidates[best][-1] in self._engine.stop_ids else "length"
        yield from (Token("") for _ in candidates[best][:-1])
        yield Token(texts[best], finish)


def best_of(engine: LocalEngine, reward: Path, count: int) -> BestOf:
    """The engine that takes the best of `count` answers by the reward model of a folder."""
    model = placed(load_reward_model(reward, torch.float32), engine.device)
    return BestOf(engine, RewardModel(model, load_tokenizer(reward)), count)


def _check_varied(sampling: Sampling) -> None:
    if sampling.temperature == 0:
        raise ConfigError(
            "temperature is 0, with which all answers to choose from are the same",
            hint="give --temperature above 0, or leave --best-of away",
        )
