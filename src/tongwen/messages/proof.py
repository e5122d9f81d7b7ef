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

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tongwen.errors import DataError, ModelError, TongwenError
from tongwen.messages.conversation import Message
from tongwen.messages.writer import Writer

Rewrite = Callable[[str], str]

# From the private use area; letters and signs between, that no change of case or escape survives.
OPEN, CLOSE, FIRST = "\U000f0000aB&'中 x", "\U000f0001", 0xF0100
SENTINEL: Final = re.compile(f"{OPEN}(.){CLOSE}", re.DOTALL)
BEFORE, BEHIND = "\n \t\n", "\n\t \n"


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


REWRITES: Final[tuple[Rewrite, ...]] = (
    str,
    _in_json,
    lambda text: text.strip("\n"),
    lambda text: text.lstrip("\n"),
    lambda text: text.rstrip("\n"),
    str.strip,
    str.lstrip,
    str.rstrip,
)
"""What templates do to the edges of a text."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A content or a thought."""

    message: int
    thought: bool = False

    def text(self, messages: Sequence[Message]) -> str:
        """What stands here in a conversation."""
        message = messages[self.message]
        return message.thinking if self.thought else message.content

    @property
    def sentinel(self) -> str:
        """The text that stands for it."""
        return f"{OPEN}{chr(FIRST + 2 * self.message + self.thought)}{CLOSE}"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in what the template writes: behind so many characters of a piece."""

    piece: int
    offset: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A trained answer: a token carries loss that begins at `head` or later, reaches beyond `words`
    and ends at `end` or sooner."""

    head: Place
    words: Place
    end: Place


@dataclass(frozen=True, slots=True)
class Plan:
    """What the template writes for conversations of one shape."""

    pieces: tuple[str, ...]
    slots: tuple[Slot, ...]
    rewrites: tuple[Rewrite, ...]
    turns: tuple[Turn, ...]
    left_out: tuple[str, ...]
    """What the template does not show."""
    closed: bool
    """Whether the template ends the last answer."""
    literal: bool
    """Whether only the assistant's texts are not in the pieces."""

    def fill(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """The text with these words, and where each piece begins."""
        parts, starts, length = [self.pieces[0]], [0], len(self.pieces[0])
        for slot, rewrite, piece in zip(self.slots, self.rewrites, self.pieces[1:], strict=True):
            inside = self.literal and messages[slot.message].role != "assistant"
            text = "" if inside else rewrite(slot.text(messages))
            starts.append(length + len(text))
            parts += (text, piece)
            length += len(text) + len(piece)
        return "".join(parts), starts

    def spans(self, starts: Sequence[int]) -> list[tuple[int, int, int]]:
        """Head, words and end of the trained answers, in characters of the filled text."""
        return [
            (
                starts[turn.head.piece] + turn.head.offset,
                starts[turn.words.piece] + turn.words.offset,
                starts[turn.end.piece] + turn.end.offset,
            )
            for turn in self.turns
        ]


def prove(
    writer: Writer,
    messages: Sequence[Message],
    tools: Sequence[str],
    controls: re.Pattern[str],
    *,
    literal: bool = False,
) -> Plan:
    """The plan for conversations of this shape, an error where nothing can be proved.

    `controls` finds the tokens that were added to the vocabulary.
    """
    return _Proof(writer, messages, tools, controls, literal=literal).plan()


class _Proof:
    """One run of the proof; `marked` are the messages with sentinels for words."""

    def __init__(
        self,
        writer: Writer,
        messages: Sequence[Message],
        tools: Sequence[str],
        controls: re.Pattern[str],
        *,
        literal: bool,
    ) -> None:
        self._writer, self._messages, self._tools = writer, messages, tools
        self._controls = controls
        self._literal = literal
        self._marked = [_marked(place, one, literal) for place, one in enumerate(messages)]
        self._pieces, self._slots = _split(self._write(self._marked))

    def plan(self) -> Plan:
        left_out = self._check_slots()
        rewrites = self._rewrites()
        ends: list[bool] = []
        turns: list[Turn] = []
        for place, message in enumerate(self._messages):
            if message.role != "assistant":
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

    def _write(self, messages: Sequence[Message], *, generation: bool = False) -> str:
        return self._writer.write(messages, self._tools, generation=generation)

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
        if self._tools and self._writer.write(self._marked) == self._write(self._marked):
            left_out.append("the tools")
        return tuple(left_out)

    def _rewrites(self) -> tuple[Rewrite, ...]:
        """What the template does to the edges of each text, seen with blanks around it."""
        padded = [_padded(message) for message in self._marked]
        pieces, slots = _split(self._write(padded))
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
        asked = self._tail(self._write(self._marked[:place], generation=True), anchor)
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
        plain = self._write([*self._marked[:place], Message("assistant", slot.sentinel)])
        head, found, _ = self._tail(plain, anchor).partition(slot.sentinel)
        unasked = self._tail(self._write(self._marked[:place]), anchor)
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
        tail = self._tail(self._write(self._marked[: place + 1]), self._slots[last].sentinel)
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
        marked = [*self._marked]
        named = (replace(call, name=name) for call, name in zip(calls, names, strict=True))
        marked[place] = replace(marked[place], calls=tuple(named))
        whole, tail = self._write(marked), self._write(marked[: place + 1])
        if any(name not in whole for name in names):
            raise DataError(
                f"the chat template does not write the calls of message {place + 1}",
                hint="choose a --template that knows tools, or leave such rows away",
            )
        tail = self._tail(tail, names[-1])
        length = len(tail.rstrip())
        ends = [match for match in self._controls.finditer(tail) if match.end() == length]
        before, anchor, behind = whole.rpartition(names[-1])
        last = own[-1] if own else self._before(place, own)
        inside = self._tail(before + anchor + tail[:length], self._slots[last].sentinel)
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

    def _tail(self, text: str, anchor: str) -> str:
        """What stands behind an anchor."""
        _, found, tail = text.rpartition(anchor)
        if not found:
            raise self._unproved("it writes a message only when others follow")
        return tail


def _marked(place: int, message: Message, literal: bool) -> Message:
    kept = message.content if literal and message.role != "assistant" else ""
    return replace(
        message,
        content=kept + Slot(place).sentinel if message.content else "",
        thinking=Slot(place, thought=True).sentinel if message.thinking else "",
    )


def _padded(message: Message) -> Message:
    """The message with blanks around its sentinels."""
    content, thinking = (
        SENTINEL.sub(rf"{BEFORE}\g<0>{BEHIND}", text)
        for text in (message.content, message.thinking)
    )
    return replace(message, content=content, thinking=thinking)


def _split(text: str) -> tuple[list[str], list[Slot]]:
    """The pieces of a text with sentinels, and the slots between them."""
    parts = SENTINEL.split(text)
    numbers = [ord(letter) - FIRST for letter in parts[1::2]]
    return parts[::2], [Slot(number // 2, thought=bool(number % 2)) for number in numbers]
