"""The engine of this machine: any transformers causal language model.

Conversations are put into the model's own chat template (`tongwen.messages`); plain text works with
every tokenizer. Prompt and answer together stay within the model's context window.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tongwen.config import Device
from tongwen.engine.decode import decode
from tongwen.engine.detokenize import text_streams
from tongwen.engine.protocol import Generation, Sampling, Token
from tongwen.errors import DataError, ModelError
from tongwen.messages import CONTROL_TOKENS, Message, encode_text, render_prompt, turn_ends
from tongwen.models import load_model, resolve_model, tokenizer_folder, weights_folder
from tongwen.models.device import CPU, device_of, placed
from tongwen.models.machine import compute_dtype
from tongwen.tokenizer import load_tokenizer

# From this many parameters on, fp32 weights cost more memory traffic than their digits are worth.
LARGE = 300_000_000
# Tokens, padding and answers included, that are computed together.
BATCH_TOKENS = 16_384


class LocalEngine:
    """The engine over a model in this process; a model that is being trained may be lent to it."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        rows = int(model.config.vocab_size)
        if len(tokenizer) > rows:
            raise ModelError(
                f"the tokenizer has {len(tokenizer):,} tokens, the model has {rows:,}",
                hint="take model and tokenizer from the same folder",
            )
        self._model = model
        self._tokenizer = tokenizer
        self._text_stream = text_streams(tokenizer)
        self.stop_ids = _stop_ids(model, tokenizer)
        """Tokens that end an answer."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of the model."""
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self._model.device

    @property
    def context(self) -> int:
        """The model's context window in tokens."""
        return int(self._model.config.max_position_embeddings)

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Generation:
        """The answer to a conversation, piece by piece."""
        return self.generate(render_prompt(messages, self._tokenizer), sampling)

    def complete(self, text: str, sampling: Sampling) -> Generation:
        """What follows plain text; an empty text starts a document."""
        return self.generate(
            [*self._beginning(text), *encode_text(self._tokenizer, text)], sampling
        )

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make."""
        return len(render_prompt(messages, self._tokenizer))

    def generate(self, prompt: Sequence[int], sampling: Sampling) -> Generation:
        """What follows the prompt ids, piece by piece."""
        self._check_room(prompt, "the prompt")
        return Generation(len(prompt), self._tokens(prompt, sampling))

    def answer(self, conversations: Sequence[Sequence[Message]], sampling: Sampling) -> list[str]:
        """The answers to many conversations, computed together."""
        prompts = [render_prompt(messages, self._tokenizer) for messages in conversations]
        for number, prompt in enumerate(prompts, 1):
            self._check_room(prompt, f"conversation {number}")
        answers = [""] * len(prompts)
        for places in _groups([len(prompt) for prompt in prompts], sampling.max_new_tokens):
            group = [prompts[place] for place in places]
            streams = [self._text_stream(prompt) for prompt in group]
            for made in decode(self._model, group, sampling, self.context, self.stop_ids):
                stream, place = streams[made.prompt], places[made.prompt]
                if made.id not in self.stop_ids:
                    answers[place] += stream.feed(made.id)
                if made.finish is not None:
                    answers[place] += stream.close()
        return answers

    def continuations(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[int]]:
        """What follows each prompt, drawn with a seed of its own; with the id that ended it."""
        answers: list[list[int]] = [[] for _ in prompts]
        for places in _groups([len(prompt) for prompt in prompts], sampling.max_new_tokens):
            group, own = [prompts[n] for n in places], [seeds[n] for n in places]
            for made in decode(self._model, group, sampling, self.context, self.stop_ids, own):
                answers[places[made.prompt]].append(made.id)
        return answers

    def text(self, prompt: Sequence[int], ids: Sequence[int]) -> str:
        """The text of ids that follow a prompt, control tokens left out."""
        stream = self._text_stream(prompt)
        spoken = [stream.feed(number) for number in ids if number not in self.stop_ids]
        return "".join([*spoken, stream.close()])

    def _tokens(self, prompt: Sequence[int], sampling: Sampling) -> Generator[Token, None, None]:
        stream = self._text_stream(prompt)
        for made in decode(self._model, [prompt], sampling, self.context, self.stop_ids):
            text = "" if made.id in self.stop_ids else stream.feed(made.id)
            if made.finish is not None:
                text += stream.close()
            yield Token(text, made.finish)

    def _check_room(self, prompt: Sequence[int], what: str) -> None:
        if len(prompt) >= self.context:
            raise DataError(
                f"{what} has {len(prompt):,} tokens, and the model's context window of "
                f"{self.context:,} must hold the answer too",
                hint="shorten the text, or take a model with a larger window",
            )

    def _beginning(self, text: str) -> list[int]:
        """The token that a document starts with, where the tokenizer has one."""
        first = _ids(self._tokenizer, [CONTROL_TOKENS[0], self._tokenizer.bos_token])
        if first:
            return first[:1]
        if not text:
            raise ModelError(
                "the tokenizer has no token that begins a text, and the text to continue is empty",
                hint="give a text to continue",
            )
        return []


def load_engine(folder: Path, device: Device = "auto") -> LocalEngine:
    """The engine over a model or run folder, on a device."""
    where = device_of(device)
    place = resolve_model(folder)
    dtype = torch.float32
    if _parameters(weights_folder(place)) > LARGE:
        dtype = torch.bfloat16 if where == CPU else compute_dtype("auto", where)
    model = placed(load_model(place, dtype), where)
    return LocalEngine(model, load_tokenizer(tokenizer_folder(place)))


def _parameters(place: Path) -> int:
    """How many numbers the weights have; only the heads of the files are read."""
    total = 0
    for path in place.glob("model*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    return total


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Tokens that end an answer: by the generation settings, the tokenizer, the chat template.

    The beginning of a new turn ends an answer as well: what would follow is no text of it.
    """
    told = model.generation_config.eos_token_id if model.generation_config else None
    stop = {told} if isinstance(told, int) else set(told or ())
    named = _ids(tokenizer, [tokenizer.eos_token, *CONTROL_TOKENS])
    return frozenset(stop.union(named, turn_ends(tokenizer)))


def _ids(tokenizer: PreTrainedTokenizerFast, tokens: Iterable[str | None]) -> list[int]:
    """The ids of those that are special tokens of this tokenizer."""
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return [special[token] for token in tokens if token in special]


def _groups(lengths: Sequence[int], new_tokens: int) -> Iterator[list[int]]:
    """Places of prompts to compute together: of like length, which wastes little padding."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: lengths[place]):
        if group and (len(group) + 1) * (lengths[place] + new_tokens) > BATCH_TOKENS:
            yield group
            group = []
        group.append(place)
    if group:
        yield group
