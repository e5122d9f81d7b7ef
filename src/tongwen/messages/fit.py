"""Conversations within a budget of tokens: nothing is cut blindly, and what goes is counted.

A long dialogue becomes several items, split in front of questions; system message and tools stand
in each, and every answer is trained once. Where one question with its answer is too long, the
middles of the longest texts of users and tools give way, with a mark (`…` on a line of its own),
until it fits: beginnings and ends, where questions are asked, stay. System, tools, template,
answers and their ends are never cut, except for the tail of an answer longer than `max_target`;
such an answer ends its item and is not followed by an end. What does not fit is a DataError.

An answer has to be seen to end. Where the template writes nothing behind the last one, as GLM's
and Baichuan's, the tokenizer's eos token is added: the one id that `apply_chat_template` does not
give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tongwen.errors import DataError, ModelError
from tongwen.messages.conversation import Conversation, Message, Preference
from tongwen.messages.encoding import encoder_of
from tongwen.messages.render import render, render_many, render_preference
from tongwen.messages.rendered import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MARK: Final = "\n…\n"
"""Stands where the middle of a text was left out."""
KEPT: Final = 32
"""Tokens of a text that stay, whatever the budget."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Budgets in tokens; 0 is no budget."""

    max_length: int
    max_source: int = 0
    """For the tokens of an item that carry no loss: questions, system message, template."""
    max_target: int = 0
    """For the tokens of one answer, its end included."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """An item to train on, and what it cost to make it fit."""

    rendered: Rendered
    cut_tokens: int = 0
    """Tokens of questions, tool results and other context that were left out."""
    cut_answer: int = 0
    """Tokens of the last answer that were left out."""
    part: int = 1
    parts: int = 1
    """Which of the items of its conversation this is."""
    added_end: bool = False
    """Whether an end was added behind the last answer."""


def fit(
    conversation: Conversation, tokenizer: PreTrainedTokenizerFast, limits: Limits
) -> list[Fitted]:
    """The items of a conversation; a DataError where its answers have no room."""
    [fitted] = fit_many([conversation], tokenizer, limits)
    if isinstance(fitted, DataError):
        raise fitted
    return fitted


def fit_many(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerFast,
    limits: Limits,
    *,
    checked: bool = False,
) -> list[list[Fitted] | DataError]:
    """The items of each conversation, rendered together; in place of a bad one, what is wrong.

    Those that `parse` made are `checked` already.
    """
    fitter = _Fitter(tokenizer, limits)
    return [
        rendered if isinstance(rendered, DataError) else fitter.items(conversation, rendered)
        for conversation, rendered in zip(
            conversations, render_many(conversations, tokenizer, checked=checked), strict=True
        )
    ]


def fit_preference(
    preference: Preference, tokenizer: PreTrainedTokenizerFast, limits: Limits
) -> tuple[Fitted, Fitted]:
    """The chosen and the rejected answer, both with an end; a DataError where one has no room.

    Nothing is cut, so that both stand behind the same prompt.
    """
    fitter = _Fitter(tokenizer, limits)
    chosen, rejected = map(fitter.ended, render_preference(preference, tokenizer))
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        fitter.refuse(name, side.rendered)
    return chosen, rejected


class _Fitter:
    def __init__(self, tokenizer: PreTrainedTokenizerFast, limits: Limits) -> None:
        self._tokenizer, self._limits = tokenizer, limits

    def items(self, conversation: Conversation, rendered: Rendered) -> list[Fitted] | DataError:
        whole = self.ended(rendered, trained=conversation.messages[-1].trained)
        if self._over(whole.rendered) <= 0:
            return [whole]
        try:
            parts = self._split(conversation)
        except DataError as error:
            return error
        return [replace(part, part=n, parts=len(parts)) for n, part in enumerate(parts, 1)]

    def _split(self, conversation: Conversation) -> list[Fitted]:
        """As many exchanges in each item as have room; one that has none alone is shortened."""
        exchanges = _exchanges(conversation)
        items: list[Fitted] = []
        start = 0
        while any(_trained(exchange) for exchange in exchanges[start:]):
            item, end = self._most(conversation, exchanges, start)
            if item is None:
                first = next(i for i in range(start, len(exchanges)) if _trained(exchanges[i]))
                skipped = [message for exchange in exchanges[start:first] for message in exchange]
                item, end = self._shortened(_joined(conversation, [exchanges[first]])), first + 1
                cut = item.cut_tokens + sum(len(self._encode(one.content)) for one in skipped)
                item = replace(item, cut_tokens=cut)
            items.append(item)
            start = end
        return items

    def _most(
        self, conversation: Conversation, exchanges: Sequence[Sequence[Message]], start: int
    ) -> tuple[Fitted | None, int]:
        """The longest item that begins here, and the exchange behind it."""
        best: Fitted | None = None
        end = start
        for stop in range(start + 1, len(exchanges) + 1):
            if not any(_trained(exchange) for exchange in exchanges[start:stop]):
                continue
            item = self._whole(_joined(conversation, exchanges[start:stop]))
            if self._over(item.rendered) > 0:
                break
            best, end = item, stop
        return best, end

    def _shortened(self, conversation: Conversation) -> Fitted:
        """One exchange with the middles of its longest texts left out."""
        lengths = {
            place: len(self._encode(message.content))
            for place, message in enumerate(conversation.messages)
            if message.role in ("user", "tool")
        }
        item = whole = self._tailed(conversation)
        needed = 0
        while (over := self._over(item.rendered)) > 0:
            needed += over
            level = _level(list(lengths.values()), needed)
            if level is None:
                raise DataError(
                    f"the answers, and what stands before them, need {len(item.rendered.ids):,} "
                    f"tokens where nothing more can be cut; {self._budget(item.rendered)}",
                    "raise the limit, or remove the row",
                )
            longest = [place for place, length in lengths.items() if length > level]
            item = self._tailed(self._without_middles(conversation, longest, level))
        return replace(item, cut_tokens=len(whole.rendered.ids) - len(item.rendered.ids))

    def _tailed(self, conversation: Conversation) -> Fitted:
        """The whole, with the tail of the last answer left out if it is beyond its budget."""
        item = self._whole(conversation)
        limit = self._limits.max_target
        runs = _runs(item.rendered.mask)
        if not limit or all(end - start <= limit for start, end in runs):
            return item
        last = conversation.messages[-1]
        if last.calls or not last.trained or any(b - a > limit for a, b in runs[:-1]):
            raise DataError(
                f"an answer has {max(b - a for a, b in runs):,} tokens, and {self._budget()}; "
                "only the tail of a last answer that calls no tools can be cut",
                "raise --max-target, or remove the row",
            )
        start, end = runs[-1]
        ids = item.rendered.ids[: start + limit]
        while len(ids) > start + 1 and self._broken(ids[start:]):
            ids.pop()
        shorter = replace(item.rendered, ids=ids, mask=item.rendered.mask[: len(ids)], closed=False)
        return Fitted(shorter, cut_answer=end - len(ids))

    def _whole(self, conversation: Conversation) -> Fitted:
        rendered = render(conversation, self._tokenizer)
        return self.ended(rendered, trained=conversation.messages[-1].trained)

    def refuse(self, name: str, rendered: Rendered) -> None:
        """Raise a DataError for an answer of a preference that is beyond a budget."""
        if self._over(rendered) > 0:
            length, trained = len(rendered.ids), rendered.trained
            raise DataError(
                f"the {name} answer has {trained:,} tokens and stands behind {length - trained:,}; "
                f"{self._budget(rendered)}",
                "raise the limit, or remove the row: preferences are not cut",
            )

    def ended(self, rendered: Rendered, *, trained: bool = True) -> Fitted:
        """With an end behind the last answer, if it is trained and has none."""
        if rendered.closed or not trained:
            return Fitted(rendered)
        end = self._tokenizer.eos_token_id
        if end is None:
            raise ModelError(
                "neither the chat template nor the tokenizer has a token that ends an answer",
                hint="set eos_token in tokenizer_config.json to the one the model stops at",
            )
        ids, mask = [*rendered.ids, end], [*rendered.mask, True]
        return Fitted(replace(rendered, ids=ids, mask=mask, closed=True), added_end=True)

    def _over(self, rendered: Rendered) -> int:
        """By how many tokens the tightest budget is exceeded."""
        limits, length = self._limits, len(rendered.ids)
        over = length - limits.max_length
        if limits.max_source:
            over = max(over, length - rendered.trained - limits.max_source)
        if limits.max_target:
            longest = max(end - start for start, end in _runs(rendered.mask))
            over = max(over, longest - limits.max_target)
        return over

    def _budget(self, rendered: Rendered | None = None) -> str:
        """The budget that is exceeded, in words; without an item, that of the answer."""
        limits = self._limits
        if rendered is not None and len(rendered.ids) > limits.max_length:
            return f"max_length is {limits.max_length:,}"
        context = 0 if rendered is None else len(rendered.ids) - rendered.trained
        if limits.max_source and context > limits.max_source:
            return f"max_source is {limits.max_source:,}"
        return f"max_target is {limits.max_target:,}"

    def _without_middles(
        self, conversation: Conversation, places: Sequence[int], level: int
    ) -> Conversation:
        messages = list(conversation.messages)
        for place in places:
            text = messages[place].content
            encoding = encoder_of(self._tokenizer).plain.encode(text, add_special_tokens=False)
            head = encoding.offsets[(level + 1) // 2 - 1][1]
            tail = encoding.offsets[-(level // 2)][0]
            messages[place] = replace(messages[place], content=text[:head] + MARK + text[tail:])
        return replace(conversation, messages=tuple(messages))

    def _encode(self, text: str) -> list[int]:
        return encoder_of(self._tokenizer).encode(text)

    def _broken(self, ids: list[int]) -> bool:
        """Whether the last character is not whole."""
        return str(self._tokenizer.decode(ids[-8:])).endswith("\ufffd")


def _exchanges(conversation: Conversation) -> list[list[Message]]:
    """The messages from each question to the next; without the system message."""
    exchanges: list[list[Message]] = []
    for message in conversation.messages:
        if message.role == "user":
            exchanges.append([])
        if message.role != "system":
            exchanges[-1].append(message)
    return exchanges


def _joined(conversation: Conversation, exchanges: Sequence[Sequence[Message]]) -> Conversation:
    system = [message for message in conversation.messages if message.role == "system"]
    said = [message for exchange in exchanges for message in exchange]
    return replace(conversation, messages=(*system, *said))


def _trained(messages: Sequence[Message]) -> bool:
    return any(message.role == "assistant" and message.trained for message in messages)


def _runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """Beginnings and ends of the stretches that carry loss."""
    edges = [i for i, (a, b) in enumerate(pairwise([False, *mask, False])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _level(lengths: Sequence[int], needed: int) -> int | None:
    """To which length the longest texts must shrink to give so many tokens; None if they cannot."""
    low, high = KEPT, max(lengths)
    if sum(max(0, length - low) for length in lengths) < needed:
        return None
    while low < high:
        middle = (low + high + 1) // 2
        if sum(max(0, length - middle) for length in lengths) >= needed:
            low = middle
        else:
            high = middle - 1
    return low
