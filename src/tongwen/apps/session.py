"""A conversation with an engine: its turns, its settings, and what of it the model sees.

Nothing here knows a terminal. `prompt` says what will be sent and what had to be left out, and
`answer` gives the answer as it is made and keeps it, whole or stopped.

Plain text (`raw`) has no history: every prompt is continued by itself.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from tongwen.apps.history import fit, least_budget
from tongwen.engine import Engine, Finish, Generation, Sampling
from tongwen.errors import ConfigError, TongwenError
from tongwen.messages import Conversation, Document, Message, check


@dataclass(frozen=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str
    prompt_tokens: int
    tokens: int
    seconds: float
    finish: Finish


@dataclass(frozen=True)
class Prompt:
    """What the model will be given for a question."""

    question: str
    messages: tuple[Message, ...]
    tokens: int
    notes: tuple[str, ...]
    """What had to be left out, for the person to know."""


class ChatSession:
    """The state of one conversation."""

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        *,
        system: str = "",
        context: int = 0,
        raw: bool = False,
    ) -> None:
        if context > engine.context:
            raise ConfigError(
                f"a context of {context:,} tokens is more than the model's {engine.context:,}",
                hint="leave --context away to take all the model has",
            )
        self.engine = engine
        self.sampling = sampling
        self.system = system
        self.context = context or engine.context
        self.raw = raw
        self.turns: list[Turn] = []
        self.saved: set[Path] = set()
        """Files that this conversation was written to."""
        self._told = 0
        if not raw and (least := least_budget(engine.count)) > self.context // 2:
            raise ConfigError(
                f"a context of {self.context:,} tokens is too small for a conversation",
                hint=f"with this model it takes at least {2 * least:,}",
            )

    @property
    def budget(self) -> int:
        """Tokens that a prompt may have: the context without the answer, but at least half."""
        return self.context - min(self.sampling.max_new_tokens, self.context // 2)

    @property
    def answered(self) -> list[Turn]:
        """The turns whose answer says anything."""
        return [turn for turn in self.turns if turn.answer.strip()]

    def prompt(self, question: str) -> Prompt:
        """The prompt for a question, cut to the budget; what is left out is said once."""
        if self.raw:
            return Prompt(question, (), 0, ())
        # An empty answer in front of it would only teach the model to give another.
        pairs = [(turn.question, turn.answer) for turn in self.answered]
        fitted = fit(self.system, pairs, question, self.engine.count, self.budget)
        notes = []
        if fitted.dropped > self._told:
            notes.append(_dropped(self._told + 1, fitted.dropped, self.budget))
        self._told = fitted.dropped
        if fitted.system_shortened:
            notes.append(
                f"the system message is longer than {self.budget:,} tokens; its middle is left out"
            )
        if fitted.question_shortened:
            notes.append(
                f"the question is too long for {self.budget:,} tokens; its middle is left out"
            )
        return Prompt(question, fitted.messages, fitted.tokens, tuple(notes))

    def answer(self, prompt: Prompt) -> Generator[str, None, None]:
        """The answer, piece by piece; what was made of it is kept even when it is stopped."""
        begin = time.perf_counter()
        generation = self._generation(prompt)
        pieces: list[str] = []
        failed = False
        try:
            for piece in generation:
                pieces.append(piece)
                yield piece
        except TongwenError:
            failed = True
            raise
        finally:
            generation.close()
            if not failed:
                self.turns.append(
                    Turn(
                        question=prompt.question,
                        answer="".join(pieces),
                        prompt_tokens=generation.prompt_tokens,
                        tokens=generation.tokens,
                        seconds=round(time.perf_counter() - begin, 3),
                        finish=generation.finish,
                    )
                )

    def undo(self) -> Turn | None:
        """Take the last turn back."""
        return self.turns.pop() if self.turns else None

    def clear(self) -> None:
        """Forget all turns; the system message and the settings stay."""
        self.turns.clear()
        self._told = 0

    def records(self) -> list[dict[str, object]]:
        """The conversation as rows that `data prepare` reads; turns without an answer are left out.

        Raises DataError for what no model can be trained on.
        """
        items: list[Conversation | Document] = []
        if self.raw:
            items += [Document(turn.question + turn.answer) for turn in self.answered]
        elif self.answered:
            messages = [Message("system", self.system)] if self.system else []
            for turn in self.answered:
                messages.append(Message("user", turn.question))
                messages.append(Message("assistant", turn.answer))
            items.append(Conversation(tuple(messages)))
        for item in items:
            check(item)
        return [dict(item.to_record()) for item in items]

    def _generation(self, prompt: Prompt) -> Generation:
        if self.raw:
            return self.engine.complete(prompt.question, self.sampling)
        room = self.context - prompt.tokens
        sampling = replace(self.sampling, max_new_tokens=min(self.sampling.max_new_tokens, room))
        return self.engine.stream(prompt.messages, sampling)


def _dropped(first: int, last: int, budget: int) -> str:
    if first == last:
        return f"turn {first} no longer fits in {budget:,} tokens; the model does not see it"
    return (
        f"turns {first} to {last} no longer fit in {budget:,} tokens; the model does not see them"
    )
