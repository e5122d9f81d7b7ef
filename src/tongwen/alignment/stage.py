"""`tongwen align`: what each objective learns from what, around the one loop."""

from __future__ import annotations

from transformers import PreTrainedModel

from tongwen.alignment.data import check_kinds, group_of, held_out_prompts
from tongwen.alignment.kto import Baseline, Judged, Mismatched, good_answers, kto
from tongwen.alignment.pairs import dpo, orpo, pair_objective, simpo
from tongwen.alignment.reference import Reference
from tongwen.alignment.reward import reward
from tongwen.alignment.rollouts import grpo_lesson
from tongwen.alignment.scores import exam_of
from tongwen.config import AlignConfig
from tongwen.engine import Sampling
from tongwen.engine.local import LocalEngine
from tongwen.models import load_base
from tongwen.models.reward import new_reward_model
from tongwen.train import TrainResult
from tongwen.train.adapters import check_method
from tongwen.train.batch import Items, Rows
from tongwen.train.inputs import prepared, shared_tokenizer, window_of
from tongwen.train.launch import in_processes
from tongwen.train.loop import Learner
from tongwen.train.mix import Ints
from tongwen.train.objective import Objective
from tongwen.train.run import Run
from tongwen.train.stages import Lesson, Material, Stage, train

SAMPLE = Sampling(max_new_tokens=80, temperature=0.0)


@in_processes
def align(config: AlignConfig) -> TrainResult:
    """Teach a model from preferences, from good and bad answers, or from rewards."""
    return train(align_stage(config))


def align_stage(config: AlignConfig) -> Stage:
    """Judged answers, or tasks, and the model that they teach."""
    config = config.resolved()
    check_method(config, config.model)
    window = window_of(config, config.model)
    folders = prepared(config, config.model, min(config.context or window, window))
    tokenizer = shared_tokenizer(folders, config.model)
    prompts = held_out_prompts(folders)
    judge = config.objective == "reward"

    def build() -> PreTrainedModel:
        if judge:
            return new_reward_model(config.model, tokenizer)
        return load_base(config.model, config)

    def sample(engine: LocalEngine) -> list[dict[str, str]]:
        return [
            {"prompt": str(tokenizer.decode(ids)), "sample": "".join(engine.generate(ids, SAMPLE))}
            for ids in ([] if judge else prompts)
        ]

    def costs(lengths: Ints) -> Ints:
        if config.objective == "grpo":
            return (lengths + config.grpo_tokens) * config.grpo_group
        sums: Ints = lengths.reshape(-1, group_of(config.objective)).sum(1)
        return sums

    def lesson(learner: Learner, material: Material, run: Run) -> Lesson:
        check_kinds(material.held_out, config.objective)
        match config.objective:
            case "kto":
                return _kto(config, learner, material, run)
            case "grpo":
                return grpo_lesson(config, learner, material, run)
            case _:
                return _pairs(config, learner, material, run)

    return Stage(
        config.objective, config, config.model, folders, tokenizer, window, build, sample,
        check=lambda items, _: check_kinds(items, config.objective),
        costs=costs,
        lesson=lesson,
        beside=config.reference,
        updates=config.grpo_updates,
    )  # fmt: skip


def _pairs(config: AlignConfig, learner: Learner, material: Material, run: Run) -> Lesson:
    def objective(name: str, items: Items) -> Objective:
        match config.objective:
            case "dpo":
                return pair_objective(dpo(config), reference.logps(name, items))
            case "orpo":
                return pair_objective(orpo(config), None)
            case "simpo":
                return pair_objective(simpo(config), None)
            case _:
                return reward(config)

    reference = Reference(run, learner, config.reference)
    items, held_out = material.items, material.held_out
    exam = exam_of(held_out, 2, objective("held_out", held_out), config.micro_batch_tokens)
    return Lesson(Rows(items, material.plan, 2), objective("train", items), exam)


def _kto(config: AlignConfig, learner: Learner, material: Material, run: Run) -> Lesson:
    window = int(learner.model.config.max_position_embeddings)
    reference = Reference(run, learner, config.reference)
    made = {}
    for name, items in (("train", material.items), ("held_out", material.held_out)):
        others = Mismatched(items, config.seed, window)
        objective = kto(config, good_answers(items), reference.logps(name, items))
        made[name] = objective, Baseline(others, reference.logps(f"{name}-kl", others))
    objective, baseline = made["train"]
    examined, prepare = made["held_out"]
    return Lesson(
        Judged(Rows(material.items, material.plan), learner, baseline),
        objective,
        exam_of(material.held_out, 1, examined, config.micro_batch_tokens, prepare),
    )
