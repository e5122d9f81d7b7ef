"""The course: what is read, what is practised, and the exam, all from one seed.

- `readings`: plain text for pretraining, in both languages.
- `exercises`: conversations for fine-tuning.
- `exam`: questions whose contents occur in neither. Contents are divided by a hash of their key,
  and the division is checked on what was really generated (`check_unseen`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from tongwen.errors import DataError
from tongwen.lessons.skills import SKILLS, Draw, Tongue, sentence
from tongwen.messages import Conversation, Document, Message

Content = tuple[str, str]
"""A skill, and the key of what was drawn for it."""

TONGUES: tuple[Tongue, ...] = ("zh", "en")
# One content in this many belongs to the exam.
EXAM_SHARE = 12
# How often each skill is practised: those that take longer to learn, more often.
PRACTICE = {
    "greeting": 1,
    "translation": 2,
    "arithmetic": 3,
    "reading": 4,
    "extraction": 3,
    "finding": 4,
    "formatting": 3,
    "refusing": 1,
}
SMALL_TALK = (
    ("你好", "你好！我是同文。"),
    ("你好！", "你好！我是同文。"),
    ("你是谁？", "我是同文，一个会说中文和英文的小模型。"),
    ("谢谢", "不客气！"),
    ("再见", "再见！"),
    ("Hello", "Hello! I am Tongwen."),
    ("Hi!", "Hi! I am Tongwen."),
    ("Who are you?", "I am Tongwen, a small model that speaks Chinese and English."),
    ("Thank you", "You are welcome!"),
    ("Goodbye", "Goodbye!"),
)


@dataclass(frozen=True)
class ExamItem:
    """A question of the exam with its only right answer."""

    skill: str
    language: Tongue
    key: str
    question: str
    answer: str


@dataclass(frozen=True)
class Taught:
    """An item of the course, and the contents that it teaches."""

    item: Conversation | Document
    contents: frozenset[Content]


class Course:
    """A bilingual curriculum of any size, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def exercises(self, count: int) -> Iterator[Taught]:
        """Conversations of one to three turns; some with a system message, some small talk."""
        rng = self._rng("exercises")
        for _ in range(count):
            messages: list[Message] = []
            if rng.random() < 0.05:
                system = rng.choice(["你是同文。", "You are Tongwen."])
                messages.append(Message("system", system))
            contents: set[Content] = set()
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                if rng.random() < 0.02:
                    question, answer = rng.choice(SMALL_TALK)
                else:
                    content, draw = self._practice(rng)
                    question, answer = draw.question, draw.answer
                    contents.add(content)
                messages += [Message("user", question), Message("assistant", answer)]
            yield Taught(Conversation(tuple(messages)), frozenset(contents))

    def readings(self, count: int) -> Iterator[Taught]:
        """Plain text: worked questions, and sentences in both languages side by side."""
        rng = self._rng("readings")
        for _ in range(count):
            contents: set[Content] = set()
            paragraphs = []
            for _ in range(rng.randint(3, 5)):
                content, paragraph = self._paragraph(rng)
                contents.add(content)
                paragraphs.append(paragraph)
            yield Taught(Document("\n".join(paragraphs)), frozenset(contents))

    def exam(self, per_cell: int) -> list[ExamItem]:
        """`per_cell` different questions for every skill and language."""
        rng = self._rng("exam")
        items = []
        for skill in SKILLS:
            for tongue in TONGUES:
                drawn: dict[str, Draw] = {}
                while len(drawn) < per_cell:
                    draw = self._draw(rng, skill, tongue, exam=True)
                    drawn[draw.question] = draw
                items += [
                    ExamItem(skill, tongue, d.key, d.question, d.answer) for d in drawn.values()
                ]
        return items

    def _paragraph(self, rng: Random) -> tuple[Content, str]:
        if rng.random() < 0.3:
            while True:
                pair = sentence(rng)
                if not self._is_exam("translation", pair.en):
                    break
            halves = (pair.zh, pair.en) if rng.random() < 0.5 else (pair.en, pair.zh)
            return ("translation", pair.en), " ".join(halves)
        content, draw = self._practice(rng)
        return content, f"{draw.question}\n{draw.answer}"

    def _practice(self, rng: Random) -> tuple[Content, Draw]:
        (skill,) = rng.choices(list(PRACTICE), weights=list(PRACTICE.values()))
        draw = self._draw(rng, skill, rng.choice(TONGUES), exam=False)
        return (skill, draw.key), draw

    def _draw(self, rng: Random, skill: str, tongue: Tongue, exam: bool) -> Draw:
        while True:
            draw = SKILLS[skill](rng, tongue)
            if self._is_exam(skill, draw.key) == exam:
                return draw

    def _is_exam(self, skill: str, key: str) -> bool:
        digest = hashlib.blake2b(f"{self.seed} {skill} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) % EXAM_SHARE == 0

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self.seed} {purpose}")


def check_unseen(exam: Iterable[ExamItem], taught: Iterable[Taught]) -> None:
    """Refuse an exam of which any content was taught, in whatever words or language."""
    examined = {(item.skill, item.key) for item in exam}
    for one in taught:
        if both := examined & one.contents:
            raise DataError(f"an exam content was taught: {min(both)}")
