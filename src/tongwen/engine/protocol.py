"""What a model can be asked, whoever computes the answer. No torch here.

An answer is a `Generation`: an iterator over pieces of text that also keeps the account of what it
cost and how it ended. Pieces are whole characters; control tokens are never among them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from tongwen.messages import Message

if TYPE_CHECKING:
    from tongwen.config import SamplingConfig

Finish = Literal["stop", "length", "interrupted"]
"""The model ended its answer; there was no room for more; nobody waited for the rest."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the fields of `SamplingConfig`, which says what they mean."""

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None

    @classmethod
    def of(cls, config: SamplingConfig) -> Sampling:
        """The part of a configuration that is about sampling."""
        return cls(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            repetition_penalty=config.repetition_penalty,
            seed=config.seed,
        )


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token: the text it completes, often none, and, for the last, why it is."""

    text: str
    finish: Finish | None = None


class Generation(Iterator[str]):
    """An answer while it is made: iterate over its pieces of text; `close` stops it."""

    def __init__(self, prompt_tokens: int, tokens: Generator[Token, None, None]) -> None:
        self.prompt_tokens = prompt_tokens
        self.tokens = 0
        """Generated so far, the one that ends the answer included."""
        self.finish: Finish = "interrupted"
        """How it ended; `interrupted` until it did."""
        self._source = tokens

    def __next__(self) -> str:
        for token in self._source:
            self.tokens += 1
            if token.finish is not None:
                self.finish = token.finish
            if token.text:
                return token.text
        raise StopIteration

    def close(self) -> None:
        """Stop generating; an answer that has ended stays as it is."""
        self._source.close()


class Engine(Protocol):
    """A language model behind a small face; applications see nothing else of it."""

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The answer to a conversation, piece by piece."""

    def complete(self, text: str, sampling: Sampling) -> Generation:
        """What follows plain text; an empty text starts a document."""

    def answer(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[str]:
        """The answers to many conversations, computed together."""

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make."""
