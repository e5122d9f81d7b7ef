"""Engines and a model to test with, for whoever builds on Tongwen.

    EchoEngine       repeats the question, character by character
    ScriptedEngine   gives the answers it was told, and keeps what it was asked
    tiny_model       writes a random model folder in a fraction of a second

The two engines load no torch and count a token for every character, and three for every message
and for the header of the answer.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tongwen.engine import Generation, Sampling, Token
from tongwen.messages import Message

MESSAGE_TOKENS = 3


class EchoEngine:
    """Answers with the last message and continues a text with itself."""

    def __init__(self, context: int = 512) -> None:
        self.context = context

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The content of the last message, one character a token."""
        return _generation(self.count(messages), messages[-1].content, sampling)

    def complete(self, text: str, sampling: Sampling) -> Generation:
        """The text once more, one character a token."""
        return _generation(1 + len(text), text, sampling)

    def answer(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[str]:
        """The last message of each conversation."""
        return ["".join(self.stream(messages, sampling)) for messages in conversations]

    def count(self, messages: Sequence[Message]) -> int:
        """A token for every character, three for every message and for the answer's header."""
        return sum(MESSAGE_TOKENS + len(m.content) for m in messages) + MESSAGE_TOKENS


@dataclass(frozen=True)
class Request:
    """What a scripted engine was asked."""

    prompt: tuple[Message, ...] | str
    sampling: Sampling


Script = str | Sequence[str | BaseException]
"""An answer: one piece, or several; an exception among them is raised in its place."""


class ScriptedEngine:
    """Gives prepared answers in order; every piece of one is a token."""

    def __init__(self, answers: Iterable[Script], context: int = 512) -> None:
        self.context = context
        self.requests: list[Request] = []
        """What was asked, oldest first."""
        self._answers = list(answers)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The next answer."""
        self.requests.append(Request(tuple(messages), sampling))
        return _generation(self.count(messages), self._next(), sampling)

    def complete(self, text: str, sampling: Sampling) -> Generation:
        """The next answer."""
        self.requests.append(Request(text, sampling))
        return _generation(1 + len(text), self._next(), sampling)

    def answer(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[str]:
        """The next answers."""
        return ["".join(self.stream(messages, sampling)) for messages in conversations]

    def count(self, messages: Sequence[Message]) -> int:
        """A token for every character, three for every message and for the answer's header."""
        return EchoEngine(self.context).count(messages)

    def _next(self) -> Sequence[str | BaseException]:
        assert self._answers, f"the script has no answer to request {len(self.requests)}"
        script = self._answers.pop(0)
        return [script] if isinstance(script, str) else script


def _generation(
    prompt_tokens: int, pieces: Sequence[str | BaseException], sampling: Sampling
) -> Generation:
    def tokens() -> Generator[Token, None, None]:
        for number, piece in enumerate(pieces, 1):
            if isinstance(piece, BaseException):
                raise piece
            yield Token(piece, "length" if number == sampling.max_new_tokens else None)
            if number == sampling.max_new_tokens:
                return
        yield Token("", "stop")

    return Generation(prompt_tokens, tokens())


def tiny_model(folder: Path, seed: int = 0, context: int = 256) -> Path:
    """Write a random LLaMA-shaped model, 2 layers of width 64, whose tokens are single bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tongwen.tokenizer import save_tokenizer, train_tokenizer

    tokenizer = train_tokenizer([], vocab_size=259)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        # Random weights of the usual size would make every token nearly equally likely.
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    save_tokenizer(tokenizer, folder)
    model.save_pretrained(folder)
    return folder
