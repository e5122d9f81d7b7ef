"""Sit the lessons' exam: every answer compared, exactly, with the only right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tongwen.engine import Engine, Sampling
from tongwen.lessons import ExamItem
from tongwen.messages import Message

# Long enough for every right answer of the lessons; a longer one is wrong.
ANSWER = Sampling(max_new_tokens=128, temperature=0.0)


@dataclass(frozen=True)
class ExamAnswer:
    """A question of the exam, and what the model made of it."""

    skill: str
    language: str
    question: str
    answer: str
    given: str

    @property
    def right(self) -> bool:
        """Whether the answer is exactly the right one; blanks around it do not count."""
        return self.given.strip() == self.answer.strip()


@dataclass(frozen=True)
class ExamResult:
    """The share of exact answers: overall, then by skill and language."""

    overall: float
    items: int
    skills: dict[str, dict[str, float]]

    def table(self) -> str:
        """A table for people."""
        lines = [f"{'skill':<14}{'zh':>6}{'en':>6}"]
        for skill, by_language in self.skills.items():
            lines.append(f"{skill:<14}" + "".join(f"{by_language[t]:>6.0%}" for t in ("zh", "en")))
        return "\n".join([*lines, f"{'overall':<14}{self.overall:>6.1%} of {self.items}"])


def sit_exam(engine: Engine, items: Sequence[ExamItem]) -> list[ExamAnswer]:
    """The engine's answers to all questions, greedily decoded."""
    given = engine.answer([[Message("user", item.question)] for item in items], ANSWER)
    return [
        ExamAnswer(item.skill, item.language, item.question, item.answer, text)
        for item, text in zip(items, given, strict=True)
    ]


def mark(answers: Sequence[ExamAnswer]) -> ExamResult:
    """The result of an exam."""
    cells: dict[str, dict[str, list[bool]]] = {}
    for one in answers:
        cells.setdefault(one.skill, {}).setdefault(one.language, []).append(one.right)
    return ExamResult(
        overall=sum(one.right for one in answers) / len(answers),
        items=len(answers),
        skills={
            skill: {language: sum(right) / len(right) for language, right in by_language.items()}
            for skill, by_language in cells.items()
        },
    )
