"""Where the words of a conversation land in what a chat template writes: proved, never guessed.

Templates carry no marks of what the assistant says. So every content and every thought is replaced
by a sentinel, a text that occurs nowhere else, and the template is run on that. What it writes is
pieces of its own with sentinels between them, and this is what has to hold:

- the contents of users, tools and assistants stand once each and in their order; a thought stands
  once or is left out; the name of every tool that is called stands in its turn;
- with blanks around them, the sentinels show which blanks the template takes away;
- an answer begins as the template begins it when it is asked for one;
- what stands behind an answer is what stands behind it when it is the last: its end.

A plan holds for all conversations of one shape. For each conversation the template is run in
earnest, and the plan filled with its words must be that text to the character, or it is refused.
Some templates look at what is asked: a literal plan, made for one conversation, keeps the texts of
the others and has the sentinel behind them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tongwen.errors import DataError, ModelError, TongwenError
from tongwen.messages.conversation import Message
from tongwen.messages.plan import (
    BEFORE,
    BEHIND,
    REWRITES,
    SENTINEL,
    Place,
    Plan,
    Rewrite,
    Slot,
    Turn,
    marked,
    padded,
    split,
)
from tongwen.messages.writer import Writer

TAILS: Final = 20_000
"""Stretches of text that a prover remembers."""


class Prover:
    """Proves plans for one template.

    `controls` finds the tokens that were added to the vocabulary. What stands behind a message is
    kept for other conversations that begin alike: long ones would take the square of their length.
    """

    def __init__(self, writer: Writer, controls: re.Pattern[str]) -> None:
        self.writer, self.controls = writer, controls
        self._tails: dict[object, str] = {}

    def plan(
        self, messages: Sequence[Message], tools: Sequence[str], *, literal: bool = False
    ) -> Plan:
        """The plan for conversations of this shape, an error where nothing can be proved."""
        return _Proof(self, messages, tools, literal=literal).plan()

    def tail(
        self, messages: Sequence[Message], tools: Sequence[str], anchor: str, *, generation: bool
    ) -> str | None:
        """What the template writes behind an anchor; None if the anchor is not there."""
        key = (tuple(messages), tuple(tools), anchor, generation)
        if key not in self._tails:
            text = self.writer.write(messages, tools, generation=generation)
            _, found, tail = text.rpartition(anchor)
            if not found:
                return None
            if len(self._tails) >= TAILS or self.writer.tells_time:
                self._tails.clear()
            self._tails[key] = tail
        return self._tails[key]


class _Proof:
    """One run of the proof; `marked` are the messages with sentinels for words."""

    def __init__(
        self,
        prover: Prover,
        messages: Sequence[Message],
        tools: Sequence[str],
        *,
        literal: bool,
    ) -> None:
        self._prover, self._messages, self._tools = prover, messages, tools
        self._controls = prover.controls
        self._literal = literal
        self._marked = [marked(place, one, literal=literal) for place, one in enumerate(messages)]
        self._pieces, self._slots = split(self._write(self._marked))

    def plan(self) -> Plan:
        left_out = self._check_slots()
        rewrites = self._rewrites()
        ends: list[bool] = []
        turns: list[Turn] = []
        for place, message in enumerate(self._messages):
            last = place == len(self._messages) - 1
            if message.role != "assistant" or not (message.trained or last):
                continue
            own = [i for i, slot in enumerate(self._slots) if slot.message == place]
            head, words = self._beginning(place, own)
            if message.calls:
                end, closed = self._end_of_calls(place, own, head)
            else:
                end, closed = self._end(place, own)
            ends.append(closed)
            if message.trained:
                turns.append(Turn(head, words, end))
        return Plan(
            tuple(self._pieces),
            tuple(self._slots),
            rewrites,
            tuple(turns),
            left_out,
            closed=bool(ends) and ends[-1],
            literal=self._literal,
        )

    def _write(self, messages: Sequence[Message]) -> str:
        return self._prover.writer.write(messages, self._tools)

    def _behind(self, anchor: str, messages: Sequence[Message], *, generation: bool = False) -> str:
        """What the template writes behind an anchor in these messages."""
        tail = self._prover.tail(messages, self._tools, anchor, generation=generation)
        if tail is None:
            raise self._unproved("it writes a message only when others follow")
        return tail

    def _check_slots(self) -> tuple[str, ...]:
        """Every content once and in order; what is left out."""
        left_out: list[str] = []
        wanted: list[Slot] = []
        for place, message in enumerate(self._messages):
            if message.thinking:
                slot = Slot(place, thought=True)
                if slot in self._slots:
                    wanted.append(slot)
                else:
                    left_out.append(f"the thought of message {place + 1}")
            if message.content and message.role != "system":
                wanted.append(Slot(place))
            elif message.content and Slot(place) not in self._slots:
                left_out.append(f"message {place + 1} (system)")
        found = [slot for slot in self._slots if self._messages[slot.message].role != "system"]
        if found != wanted:
            missing = [slot for slot in wanted if slot not in found]
            what = f"it leaves out or changes message {missing[0].message + 1}" if missing else None
            raise self._unproved(what or "it repeats the words or changes their order")
        if self._tools and self._prover.writer.write(self._marked) == self._write(self._marked):
            left_out.append("the tools")
        return tuple(left_out)

    def _rewrites(self) -> tuple[Rewrite, ...]:
        """What the template does to the edges of each text, seen with blanks around it."""
        pieces, slots = split(self._write([padded(message) for message in self._marked]))
        if slots != self._slots:
            raise self._unproved("blanks around the words change where they stand")
        chosen: list[Rewrite] = []
        behind = ""
        for i, slot in enumerate(slots):
            here = behind + self._pieces[i]
            for rewrite in REWRITES:
                before, behind = rewrite(BEFORE + slot.sentinel + BEHIND).split(slot.sentinel)
                if pieces[i] == here + before and pieces[i + 1].startswith(
                    behind + self._pieces[i + 1]
                ):
                    chosen.append(rewrite)
                    break
            else:
                raise self._unproved(f"it changes the edges of message {slot.message + 1}")
        return tuple(chosen)

    def _speaks(self, slot: Slot) -> bool:
        return self._messages[slot.message].role != "system"

    def _beginning(self, place: int, own: list[int]) -> tuple[Place, Place]:
        """Where the model takes over, and where its words begin."""
        before = self._before(place, own)
        anchor = self._slots[before].sentinel
        piece = self._pieces[before + 1]
        asked = self._behind(anchor, self._marked[:place], generation=True)
        if own and not self._slots[own[0]].thought:
            if not piece.startswith(asked) and not asked.startswith(piece):
                raise self._unproved("answers do not begin as the generation prompt does")
            head = min(len(asked), len(piece))
            if piece[head:].strip():
                # What stands there, such as an empty thought, is no word of this answer.
                words = Place(before + 1, len(piece))
                return Place(before + 1, len(piece.rstrip(" "))), words
        else:
            opening = self._opening(place, anchor, asked)
            head = len(opening)
            if not piece.startswith(opening):
                raise self._unproved("answers with a thought or a call begin otherwise than others")
        return Place(before + 1, head), Place(before + 1, head)

    def _opening(self, place: int, anchor: str, asked: str) -> str:
        """What stands before an answer that begins with a thought or a call, seen at a plain one.

        The plain answer shows where the words can begin, the generation prompt where the model
        takes over; the shorter of the two, as one must begin with the other.
        """
        slot = Slot(place)
        plain = [*self._marked[:place], Message("assistant", slot.sentinel)]
        head, found, _ = self._behind(anchor, plain).partition(slot.sentinel)
        unasked = self._behind(anchor, self._marked[:place])
        if not found:
            raise self._unproved("it leaves out a plain answer")
        if asked == unasked:
            return head.rstrip(" ")
        if head.startswith(asked):
            return asked
        if asked.startswith(head):
            return head
        raise self._unproved("answers do not begin as the generation prompt does")

    def _end(self, place: int, own: list[int]) -> tuple[Place, bool]:
        """Where the answer's end is over, and whether it has one."""
        last = own[-1]
        tail = self._behind(self._slots[last].sentinel, self._marked[: place + 1])
        control = self._controls.search(tail)
        length = control.end() if control else len(tail.rstrip())
        piece = self._pieces[last + 1]
        if piece.startswith(tail[:length]):
            return Place(last + 1, length), length > 0
        if any(match[0] in piece for match in self._controls.finditer(tail[:length])):
            raise self._unproved(f"message {place + 1} ends otherwise than it would as the last")
        return Place(last + 1, 0), False

    def _end_of_calls(self, place: int, own: list[int], head: Place) -> tuple[Place, bool]:
        """The same behind calls, which are found by the names of the tools."""
        calls = self._messages[place].calls
        names = [Slot(len(self._messages) + number).sentinel for number in range(len(calls))]
        messages = [*self._marked]
        named = (replace(call, name=name) for call, name in zip(calls, names, strict=True))
        messages[place] = replace(messages[place], calls=tuple(named))
        whole = self._write(messages)
        if any(name not in whole for name in names):
            raise DataError(
                f"the chat template does not write the calls of message {place + 1}",
                hint="choose a --template that knows tools, or leave such rows away",
            )
        tail = self._behind(names[-1], messages[: place + 1])
        length = len(tail.rstrip())
        ends = [match for match in self._controls.finditer(tail) if match.end() == length]
        before, anchor, behind = whole.rpartition(names[-1])
        last = own[-1] if own else self._before(place, own)
        _, _, inside = (before + anchor + tail[:length]).rpartition(self._slots[last].sentinel)
        if not behind.startswith(tail[:length]) or SENTINEL.findall(inside) != [
            letter for name in names for letter in SENTINEL.findall(name)
        ]:
            raise self._unproved(f"the calls of message {place + 1} do not stand together")
        for call, name in zip(calls, names, strict=True):
            inside = inside.replace(name, call.name)
        if not self._pieces[last + 1].startswith(inside):
            raise self._unproved(f"it changes the names of tools in message {place + 1}")
        said = inside if own else inside[head.offset :]
        if any(said.count(end[0]) > 1 for end in ends):
            raise self._unproved(f"message {place + 1} ends more than once")
        return Place(last + 1, len(inside)), bool(ends)

    def _before(self, place: int, own: list[int]) -> int:
        """The slot in front of a turn."""
        if own:
            before = own[0] - 1
        else:
            earlier = [i for i, slot in enumerate(self._slots) if slot.message < place]
            before = max((i for i in earlier if self._speaks(self._slots[i])), default=-1)
        if before < 0 or own != list(range(before + 1, before + 1 + len(own))):
            raise self._unproved(f"what belongs to message {place + 1} does not stand together")
        return before

    def _unproved(self, why: str) -> TongwenError:
        """A template that fails with the plainest talk is broken; else the row is refused."""
        plain = all(message.role in ("user", "assistant") for message in self._messages)
        special = self._tools or any(m.thinking or m.calls for m in self._messages)
        return (ModelError if plain and not special else DataError)(
            f"this chat template cannot be masked provably: {why}",
            hint="choose a template by name with --template, or leave such rows away",
        )
