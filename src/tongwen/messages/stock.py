"""Any model's own template: its rendering, tokenised once, with the proved mask.

The ids are those of transformers' `apply_chat_template`. A token carries loss if the model has to
write it: it lies behind the generation prompt, reaches into the words of a trained answer, and
ends no later than the token that ends the answer. Blanks that the template puts between its head,
the words and the end are written by the model too. A token that joins the end of the head with the
beginning of the words is none that the model is ever asked for: it carries no loss and is counted.

In training, a content that spells a control token is refused; in a prompt it is encoded as text.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import numpy as np

from tongwen.errors import DataError, TongwenError
from tongwen.messages.conversation import Conversation, Message, Role
from tongwen.messages.encoding import Encoder, encoder_of
from tongwen.messages.own import compact
from tongwen.messages.places import Placed
from tongwen.messages.plan import Plan
from tongwen.messages.proof import Prover
from tongwen.messages.rendered import Rendered
from tongwen.messages.writer import Writer, in_time

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLANS: Final = 1024
"""Plans that are kept; rows of one source have few shapes, unless they call tools."""


@dataclass(frozen=True, slots=True)
class Text:
    """What the template writes for a conversation, with the places of its trained answers."""

    text: str
    spans: list[tuple[int, int, int]]
    plan: Plan


@dataclass
class StockTemplate:
    """The chat template that a tokenizer brings, with the plans proved for it."""

    encoder: Encoder
    writer: Writer
    _plans: dict[object, Plan] = field(default_factory=dict)

    @cached_property
    def _prover(self) -> Prover:
        return Prover(self.writer, self.encoder.controls)

    def render(self, conversations: Sequence[Conversation]) -> list[Rendered | DataError]:
        """Conversations that have passed `check`, encoded together."""
        texts: list[Text | DataError] = []
        with in_time(len(conversations)):
            for conversation in conversations:
                try:
                    texts.append(self.text(conversation))
                except DataError as error:
                    texts.append(error)
        sound = [text.text for text in texts if isinstance(text, Text)]
        placed = iter(self.encoder.marked.encode(sound))
        return [
            text if isinstance(text, DataError) else _masked(text, next(placed)) for text in texts
        ]

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[str],
        tokenizer: PreTrainedTokenizerFast,
    ) -> list[int]:
        """The messages and the head of the answer."""
        with in_time():
            text = self.writer.write(messages, tools, generation=True)
        if not self._spelled(messages, tools):
            return self.encoder.marked.ids(text)
        return list(
            tokenizer.apply_chat_template(
                self.writer.records(messages, tools),
                tools=[json.loads(tool) for tool in tools] or None,
                add_generation_prompt=True,
                sanitize_control_tokens=True,
                return_dict=False,
            )
        )

    def text(self, conversation: Conversation) -> Text:
        """What the template writes, and the proof of where the answers are in it."""
        messages, tools = conversation.messages, conversation.tools
        if spelled := self._spelled(messages, tools):
            raise DataError(
                f"a text spells the control token {spelled}",
                hint="replace it, or remove the row: the model would take it for the token itself",
            )
        text = self.writer.write(messages, tools)
        for plan in self._candidates(conversation):
            filled, starts = plan.fill(messages)
            if filled == text:
                return Text(text, plan.spans(starts), plan)
        raise _changed(plan, starts, filled, text)

    def _candidates(self, conversation: Conversation) -> Iterator[Plan]:
        """Plans, the best first.

        The one of this shape that is known; one proved anew, for templates that write the time; and
        a literal one.
        """
        messages, tools = conversation.messages, conversation.tools
        shape = (
            tools,
            *((m.role, m.content == "", m.thinking == "", m.calls, m.trained) for m in messages),
        )
        plan = self._plans.get(shape)
        if plan is not None:
            yield plan
        if plan is None or self.writer.tells_time:
            self._plans[shape] = self._prover.plan(messages, tools)
            if len(self._plans) > PLANS:
                del self._plans[next(iter(self._plans))]
            yield self._plans[shape]
        yield self._prover.plan(messages, tools, literal=True)

    def _spelled(self, messages: Sequence[Message], tools: Sequence[str]) -> str | None:
        """A control token that a text spells."""
        for text in (*_texts(messages), *_unescaped(tools)):
            if found := self.encoder.spelled.search(text):
                return found[0]
        return None


def _texts(messages: Sequence[Message]) -> Iterable[str]:
    for message in messages:
        yield message.content
        yield message.thinking
        for call in message.calls:
            yield call.name
            yield from _unescaped([call.arguments])


def _unescaped(texts: Iterable[str]) -> Iterator[str]:
    """JSON texts, each also as templates write it, where escapes hide what it spells."""
    for text in texts:
        yield text
        if "\\" in text:
            yield compact(text)


def _masked(text: Text, placed: Placed) -> Rendered:
    starts, ends = placed.starts, placed.ends
    mask = np.zeros(len(starts), dtype=np.bool_)
    joined = 0
    for span in text.spans:
        head, words, end = map(placed.position, span)
        behind_head = starts.searchsorted(head)
        first = max(behind_head, min(ends.searchsorted(words, "right"), starts.searchsorted(words)))
        last = min(ends.searchsorted(end, "right"), starts.searchsorted(end))
        mask[first:last] = True
        # Tokens that begin in the head and end in the words, or reach beyond the end.
        joined += int(behind_head > 0 and ends[behind_head - 1] > words)
        joined += int(last < len(starts) and starts[last] < end)
    assert mask.any(), "a proved answer has tokens"
    plan = text.plan
    return Rendered(placed.ids, mask.tolist(), plan.left_out, joined, plan.closed)


def _changed(plan: Plan, starts: Sequence[int], filled: str, text: str) -> DataError:
    """The error for words that the template changes."""
    same = next((i for i, (a, b) in enumerate(zip(filled, text, strict=False)) if a != b), None)
    place = min(len(filled), len(text)) if same is None else same
    slot = plan.slots[min(max(bisect_left(starts, place) - 1, 0), len(plan.slots) - 1)]
    return DataError(
        f"this chat template cannot be masked provably: it changes or moves the words of "
        f"message {slot.message + 1}",
        hint="the text looks like a part of the template; change it, or choose a --template",
    )


_templates: WeakKeyDictionary[PreTrainedTokenizerFast, StockTemplate] = WeakKeyDictionary()


def stock_template(tokenizer: PreTrainedTokenizerFast) -> StockTemplate:
    """The tokenizer's own template; a ModelError if it has none."""
    encoder = encoder_of(tokenizer)
    template = _templates.get(tokenizer)
    if (
        template is None
        or template.encoder is not encoder
        or not template.writer.current(tokenizer)
    ):
        template = _templates[tokenizer] = StockTemplate(encoder, Writer(tokenizer))
    return template


def turn_ends(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """The ids that end an answer: its end, or the beginning of the next turn where it has none.

    Empty where the tokenizer has no chat template, or where the end is no single token.
    """
    roles: tuple[Role, ...] = ("user", "assistant", "user", "assistant")
    talk = tuple(Message(role, "x") for role in roles)
    try:
        template = stock_template(tokenizer)
        with in_time():
            text = template.text(Conversation(talk))
    except TongwenError:
        return frozenset()
    behind = text.plan.pieces[text.plan.turns[0].end.piece]
    found = template.encoder.controls.match(behind.lstrip())
    number = template.encoder.plain.token_to_id(found[0]) if found else None
    return frozenset() if number is None else frozenset({number})
