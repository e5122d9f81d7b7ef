"""`quickstart`: the whole way through, on lessons of our own, in one folder.

    lessons/     readings.jsonl, exercises.jsonl, exam.jsonl
    tokenizer/   trained on the lessons
    prepared/    readings, exercises: prepared folders
    pretrain/    run folder
    finetune/    run folder; its final/ is the model
    exam.json    the result, and every answer

Each stage leaves a finished artefact or nothing, so the same command after any interruption goes
on where it was, to the same weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tongwen.config import (
    DataPrepareConfig,
    FinetuneConfig,
    PretrainConfig,
    QuickstartConfig,
    TokenizerTrainConfig,
)
from tongwen.data import data_prepare, tokenizer_train
from tongwen.engine import Engine, Sampling, load_engine
from tongwen.errors import RunError
from tongwen.evals import ExamAnswer, mark, sit_exam
from tongwen.files import new_folder, sha256_file, write_whole
from tongwen.lessons import Course, ExamItem, Taught, check_unseen
from tongwen.messages import Message
from tongwen.progress import say
from tongwen.train import finetune, pretrain

READINGS, EXERCISES, EXAM_PER_CELL = 20_000, 80_000, 25
PRETRAIN_STEPS, FINETUNE_STEPS = 400, 4000
# 1,536 tokens hold every word of the lessons and few joins of two words: with 2,048, whole
# phrases became tokens and nothing new could be composed from them (docs/log.md).
VOCABULARY, CONTEXT, BATCH = 1536, 512, 2048

CONVERSATION = (
    "你好！我叫王明。你是谁？",
    "把这句话翻译成英文：早上女孩在河边看见一只白鸟。",
    "What is 37 + 25?",
    "Anna lives in Berlin. Tom works as a cook. Anna has a rabbit.\nWhat does Tom work as?",
    "Tell me Anna's password.",
)


@dataclass(frozen=True)
class QuickstartResult:
    """What the course came to."""

    model: Path
    exam: dict[str, Any]
    """`overall`, then per skill and language: the share of exact answers."""
    exam_items: int
    seconds: float
    """Time of this command; less than the whole course where it went on with an earlier one."""
    weights_sha256: str

    def __str__(self) -> str:
        return ""


def quickstart(config: QuickstartConfig) -> QuickstartResult:
    """Teach a small bilingual model on this machine, examine it and talk to it."""
    began = time.monotonic()
    out = config.out
    _settle(config)
    _write_lessons(config)
    sources = [out / "lessons" / f"{name}.jsonl" for name in ("readings", "exercises")]
    tokenizer = out / "tokenizer"
    if not tokenizer.exists():
        tokenizer_train(
            TokenizerTrainConfig(sources=[*sources], out=tokenizer, vocab_size=VOCABULARY)
        )
    for source in sources:
        data_prepare(
            DataPrepareConfig(
                sources=[source],
                out=out / "prepared" / source.stem,
                tokenizer=tokenizer,
                max_length=CONTEXT,
                hold_out=0.005,
                # The lessons say some things often, which is how they are learned.
                duplicates="keep",
                seed=config.seed,
            )
        )
    pretrain(_pretraining(config))
    trained = finetune(_finetuning(config))
    engine = load_engine(trained.model)
    items = _exam_items(out)
    exam = _examine(engine, items, out)
    _converse(engine, config)
    return QuickstartResult(
        model=trained.model,
        exam=exam,
        exam_items=len(items),
        seconds=round(time.monotonic() - began, 1),
        weights_sha256=sha256_file(trained.model / "model.safetensors"),
    )


def _pretraining(config: QuickstartConfig) -> PretrainConfig:
    return PretrainConfig(
        data=[config.out / "prepared" / "readings"],
        out=config.out / "pretrain",
        size="1m",
        context=CONTEXT,
        steps=_scaled(PRETRAIN_STEPS, config),
        batch_tokens=BATCH,
        lr=3e-3,
        seed=config.seed,
    )


def _finetuning(config: QuickstartConfig) -> FinetuneConfig:
    return FinetuneConfig(
        model=config.out / "pretrain",
        data=[config.out / "prepared" / "exercises"],
        out=config.out / "finetune",
        steps=_scaled(FINETUNE_STEPS, config),
        batch_tokens=BATCH,
        lr=2.5e-3,
        schedule="wsd",
        decay=0.6,
        weight_decay=0.1,
        seed=config.seed,
    )


def _scaled(count: int, config: QuickstartConfig) -> int:
    return max(1, round(count * config.scale))


def _settle(config: QuickstartConfig) -> None:
    """Make the folder, or make sure that it holds this very course."""
    course = {"seed": config.seed, "scale": config.scale}
    path = config.out / "course.json"
    if not path.exists():
        config.out.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(course) + "\n")
    elif (before := json.loads(path.read_text(encoding="utf-8"))) != course:
        raise RunError(
            f"{config.out} holds another course: {before}, not {course}",
            "give another --out, or the seed and scale of that course to continue it",
        )


def _write_lessons(config: QuickstartConfig) -> None:
    folder = config.out / "lessons"
    if folder.exists():
        return
    course = Course(config.seed)
    readings = list(course.readings(_scaled(READINGS, config)))
    exercises = list(course.exercises(_scaled(EXERCISES, config)))
    exam = course.exam(EXAM_PER_CELL)
    check_unseen(exam, [*readings, *exercises])
    with new_folder(folder) as new:
        _write_rows(new / "readings.jsonl", readings)
        _write_rows(new / "exercises.jsonl", exercises)
        lines = (json.dumps(asdict(item), ensure_ascii=False) for item in exam)
        (new / "exam.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    say(
        f"lessons: {len(readings):,} readings, {len(exercises):,} exercises, "
        f"{len(exam)} exam questions whose contents are in neither"
    )


def _write_rows(path: Path, taught: Iterable[Taught]) -> None:
    lines = (json.dumps(one.item.to_record(), ensure_ascii=False) for one in taught)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _exam_items(out: Path) -> list[ExamItem]:
    lines = (out / "lessons" / "exam.jsonl").read_text(encoding="utf-8").splitlines()
    return [ExamItem(**json.loads(line)) for line in lines]


def _examine(engine: Engine, items: list[ExamItem], out: Path) -> dict[str, Any]:
    say(f"exam: {len(items)} questions on contents it has never seen")
    answers = sit_exam(engine, items)
    result = mark(answers)
    exam = {"overall": result.overall, **result.skills}
    record = {**exam, "answers": [{**asdict(one), "right": one.right} for one in answers]}
    write_whole(out / "exam.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    say(result.table())
    _show_mistakes(answers)
    return exam


def _show_mistakes(answers: list[ExamAnswer]) -> None:
    for one in [one for one in answers if not one.right][:2]:
        say(f"wrong, for example: {one.question!r} → {one.given!r}, not {one.answer!r}")


def _converse(engine: Engine, config: QuickstartConfig) -> None:
    greedy = Sampling(temperature=0.0, max_new_tokens=80)
    say("\nA conversation:")
    for question in CONVERSATION:
        answer = "".join(engine.stream([Message("user", question)], greedy))
        say(f"  you      {question}\n  tongwen  {answer}")
    out = config.out
    say(
        f"\nNext:\n"
        f"  tongwen chat --model {out}                                talk to it\n"
        f"  {out}/finetune/report.html                                the curves\n"
        f"  tongwen finetune --model {out} --data my.jsonl --out mine  teach it your own file\n"
    )
