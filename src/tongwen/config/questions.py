"""Settings of the command that makes conversations from tables of questions and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tongwen.config.base import Config, Seed, Sources

Merge = Literal["numbered", "first", "all"]


class DataQuestionsConfig(Config):
    """Write questions and answers as JSON lines to learn from: a question once, answers merged."""

    sources: Sources
    """Tables of questions, with their answers beside them or in the files of `answers`."""
    out: Path
    """The JSON lines to write; rows that are not used are listed beside it."""
    question: str = "question"
    """Column of the question."""
    answer: str = "answer"
    """Column of the answer."""
    answers: tuple[str | Path, ...] = ()
    """Tables of answers, where these are not beside the questions."""
    id: str = "id"
    """Column of the number of a question, where the answers are in tables of their own."""
    question_id: str = "q_id"
    """Column in the tables of answers for the number of the question."""
    instruction: tuple[str, ...] = ()
    """What to say above every question; of several, the seed and the question choose one."""
    prefix: str = ""
    """What to write before every question, for example `病人：`."""
    merge: Merge = "numbered"
    """Several answers to one question: numbered in one answer, the first alone, or a row each."""
    seed: Seed = 0
    """Seed of the choice of the instruction."""
