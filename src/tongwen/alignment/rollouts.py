"""What GRPO trains on: answers that the model gives now, with what they are worth.

    rollouts/step-000000008-0.json   where answers are used for several steps, those that process 0
                                     began at step 8

A prompt is an item of the data up to its first trained token; what follows it there is the answer
that rewards compare with. Every answer is drawn with a seed of its own, from (seed, step, prompt,
number), so a run that was killed goes on to the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from tongwen.alignment.data import prompt_of
from tongwen.alignment.grpo import advantages, grpo
from tongwen.alignment.scores import resting
from tongwen.alignment.verify import reward_of
from tongwen.config import AlignConfig
from tongwen.engine import Sampling
from tongwen.engine.local import LocalEngine
from tongwen.files import write_whole
from tongwen.models import PACKED, load_model
from tongwen.models.device import device_of, placed
from tongwen.train.batch import Batch, Items, Whole, Work, pack
from tongwen.train.checkpoint import all_checkpoints, step_of
from tongwen.train.heldout import spread
from tongwen.train.loop import Exam, Learner
from tongwen.train.mix import Ints
from tongwen.train.objective import token_logps
from tongwen.train.plan import Groups
from tongwen.train.processes import exchange, rank, share
from tongwen.train.run import Run
from tongwen.train.stages import Lesson, Material

ANSWERS = 102
"""Purpose of the seeds of answers."""


@dataclass(frozen=True)
class Rollout:
    """An answer to a prompt, as tokens, and what it is worth."""

    item: int
    prompt: list[int]
    answer: list[int]
    reward: float
    advantage: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


class Tasks:
    """Prompts with the answers of the data, and what answers to them are worth."""

    def __init__(self, items: Items, learner: Learner, config: AlignConfig) -> None:
        self._items = items
        self._tokenizer = learner.tokenizer
        self._engine = LocalEngine(learner.model, learner.tokenizer)
        self._config = config
        self._reward = reward_of(config)

    def prompt(self, item: int) -> list[int]:
        """The tokens before the answer."""
        return prompt_of(self._items.ids(item), self._items.mask(item))

    def rollouts(self, items: Ints, step: int) -> list[Rollout]:
        """A group of answers to the prompt of each item, drawn for a step."""
        group = self._config.grpo_group
        members = [(int(item), number) for item in items for number in range(group)]
        seeds = [answer_seed(self._config.seed, step, *one) for one in members]
        prompts = [self.prompt(item) for item, _ in members]
        sampling = Sampling(max_new_tokens=self._config.grpo_tokens, temperature=1.0, top_p=1.0)
        answers = self._engine.continuations(prompts, sampling, seeds)
        rewards = np.array(
            [self._worth(item, answer) for (item, _), answer in zip(members, answers, strict=True)]
        )
        better = [
            advantages(rewards[first : first + group], self._config.grpo_scale)
            for first in range(0, len(members), group)
        ]
        columns = zip(members, prompts, answers, rewards, np.concatenate(better), strict=True)
        return [
            Rollout(item, prompt, answer, float(reward), float(advantage))
            for (item, _), prompt, answer, reward, advantage in columns
        ]

    def exam(self, _: PreTrainedModel, most_tokens: int) -> dict[str, float]:
        """The mean reward of the likeliest answers to held-out prompts."""
        chosen = spread(self._items.lengths + self._config.grpo_tokens, most_tokens).tolist()
        sampling = Sampling(max_new_tokens=self._config.grpo_tokens, temperature=0.0)
        prompts = [self.prompt(item) for item in chosen]
        answers = self._engine.continuations(prompts, sampling, [0] * len(chosen))
        rewards = [self._worth(*one) for one in zip(chosen, answers, strict=True)]
        lengths = [len(answer) for answer in answers]
        return {
            "held_out_reward": float(np.mean(rewards)),
            "held_out_answer_tokens": float(np.mean(lengths)),
        }

    def _worth(self, item: int, answer: Sequence[int]) -> float:
        truth = self._items.ids(item)[self._items.mask(item)]
        return self._reward(self._text(answer), self._text(truth.tolist()))

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class Rollouts:
    """A source whose batches are answers of the model as it is when a step is asked for."""

    def __init__(
        self, tasks: Tasks, plan: Groups, learner: Learner, config: AlignConfig, run: Run
    ) -> None:
        self._tasks, self._plan, self._model = tasks, plan, learner.model
        self._config, self._run = config, run
        self._reference = _reference(config, learner.model)
        self.steps_per_epoch = plan.steps_per_epoch
        self.step_tokens = plan.step_tokens

    def step(self, step: int) -> Work:
        """The micro-batches of step `step`."""
        first = step - step % self._config.grpo_updates
        rollouts, old = self._drawn(first, self._plan.step(step))
        batches = [self._batch(rows) for rows in self._rows(rollouts)]
        if old is not None:
            for batch, logps in zip(batches, old, strict=True):
                batch.values["old"] = torch.tensor(logps)
        counts = exchange([sum(len(one.answer) for one in rollouts), len(rollouts)])
        trained, groups = (sum(column) for column in zip(*counts, strict=True))
        return Work(batches, Whole(step=step, trained=trained, groups=groups))

    def _drawn(
        self, first: int, parts: Sequence[Ints]
    ) -> tuple[list[Rollout], list[list[float]] | None]:
        """The answers begun at a step, and log p of each row's tokens then, if others need it."""
        if self._config.grpo_updates == 1:
            return self._draw(first, parts), None
        folder = self._run.folder / "rollouts"
        path = folder / f"step-{first:09}-{rank()}.json"
        if path.exists():
            told = json.loads(path.read_text(encoding="utf-8"))
            return [Rollout(**one) for one in told["rollouts"]], told["old"]
        rollouts = self._draw(first, parts)
        with resting(self._model):
            old = [
                token_logps(self._model, self._batch(rows).to(self._model.device)).tolist()
                for rows in self._rows(rollouts)
            ]
        folder.mkdir(exist_ok=True)
        _forget(folder, self._run.checkpoints, self._config.grpo_updates)
        record = {"rollouts": [asdict(one) for one in rollouts], "old": old}
        write_whole(path, json.dumps(record) + "\n")
        return rollouts, old

    def _draw(self, first: int, parts: Sequence[Ints]) -> list[Rollout]:
        mine, idle = share(parts)
        return (
            []
            if idle and len(mine) == 1
            else self._tasks.rollouts(np.concatenate(mine[: len(mine) - idle]), first)
        )

    def _rows(self, rollouts: Sequence[Rollout]) -> Iterator[list[Rollout]]:
        """Answers that are computed together."""
        row: list[Rollout] = []
        for one in rollouts:
            if row and sum(map(len, row)) + len(one) > self._config.micro_batch_tokens:
                yield row
                row = []
            row.append(one)
        if row:
            yield row

    def _batch(self, rows: Sequence[Rollout]) -> Batch:
        batch = pack(
            [np.array([*one.prompt, *one.answer]) for one in rows],
            [np.array([False] * len(one.prompt) + [True] * len(one.answer)) for one in rows],
            np.array([one.item for one in rows]),
        )
        batch.values["advantage"] = torch.tensor([one.advantage for one in rows])
        batch.values["reward"] = torch.tensor([one.reward for one in rows])
        if self._reference is not None:
            with resting(self._reference):
                row = batch.to(self._reference.device)
                batch.values["reference"] = token_logps(self._reference, row).clone()
        return batch


def grpo_lesson(config: AlignConfig, learner: Learner, material: Material, run: Run) -> Lesson:
    """Answers of the model, worth what can be verified of them."""
    tasks = Tasks(material.items, learner, config)
    exam: Exam | None = None
    if len(material.held_out):
        exam = Tasks(material.held_out, learner, config).exam
    return Lesson(Rollouts(tasks, material.plan, learner, config, run), grpo(config), exam)


def answer_seed(seed: int, step: int, item: int, number: int) -> int:
    """The seed of one answer of a run."""
    state = np.random.SeedSequence([seed, ANSWERS, step, item, number]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def _reference(config: AlignConfig, model: PreTrainedModel) -> PreTrainedModel | None:
    """The model that the KL divergence is from, beside the one that learns."""
    if config.strength == 0:
        return None
    folder = config.reference or config.model
    reference = placed(load_model(folder, model.dtype), device_of(config.device))
    reference.set_attn_implementation(PACKED)
    return reference.requires_grad_(False)


def _forget(folder: Path, checkpoints: Path, updates: int) -> None:
    """Remove answers that no checkpoint can need any more."""
    needed = min(map(step_of, all_checkpoints(checkpoints)), default=0)
    for path in folder.glob("step-*.json"):
        if int(path.stem.split("-")[1]) + updates <= needed:
            path.unlink()
