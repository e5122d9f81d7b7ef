"""Mappings: a few lines of TOML that say where an unusual layout keeps what we look for.

A file has one table, named for what its rows are:

    [text]                        [question_answer]             [preference]
    text = "body"                 question = "q"                question = "q"
                                  answer = "a"                  chosen = "better"
                                                                rejected = "worse"

    [conversation]                              [conversation]
    list = "data.turns"                         turns = "chat.*"
    role = "speaker"                            user = "Human"
    content = "utterance"                       assistant = "MOSS"
    roles = {user = ["Q"], assistant = ["A"]}   strip = ["<|Human|>:", "<|MOSS|>:", "<eoh>"]

A place is a key, or keys joined by dots; `*` stands for every element of a list or an object, in
its order. The texts of several places are joined by newlines. A mapping turns a row into one of a
layout that `tongwen.messages.layouts` reads; everything else about it is decided there.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Final, Self, cast

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tongwen.config import Config
from tongwen.errors import ConfigError, DataError
from tongwen.messages.fields import Row, as_list, as_text, blank, quoted, shown, type_name
from tongwen.settings import nearest, read_toml


def _places(value: object) -> object:
    places = [value] if isinstance(value, str) else value
    if not isinstance(places, list | tuple) or not places or "" in places:
        raise ValueError("write a place, or a list of places")
    return tuple(places)


Place = Annotated[str, Field(min_length=1)]
Places = Annotated[tuple[str, ...], BeforeValidator(_places)]
CANONICAL: Final = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}
ROLES: Final = {**CANONICAL, "human": "user", "bot": "assistant", "call": "function_call"}
"""Names of roles in a mapping, and the names that the layouts read."""


class Mapping(Config):
    """Where the rows of one data set keep what we look for."""

    model_config = ConfigDict(populate_by_name=True)

    strip: tuple[str, ...] = ()
    """Marks at the beginning or end of a text that are not part of it; blanks go with them."""

    @abstractmethod
    def row(self, record: object) -> Row:
        """The same row in a layout that is read without a mapping."""

    def _text(self, where: str, value: object) -> str:
        text = as_text(where, value)
        if self.strip:
            text = text.strip()
        for mark in self.strip:
            text = text.removeprefix(mark).removesuffix(mark).strip()
        return text

    def _joined(self, record: object, places: Places, *, optional: bool = False) -> str:
        """The texts of several places, of which some may be missing, one below the other."""
        parts = [
            self._text(f"the text at '{place}'", value)
            for place in places
            for value in _at(record, place, optional=optional or len(places) > 1)
            if value is not None
        ]
        return "\n".join(part for part in parts if not blank(part))


class TextMapping(Mapping):
    """Rows that are documents."""

    text: Places
    """The text, or its parts from top to bottom."""

    def row(self, record: object) -> Row:
        """`{"text": …}`."""
        return {"text": self._joined(record, self.text)}


class _SpokenMapping(Mapping):
    """What all rows that are spoken may have."""

    system: Places | None = None
    """The system message."""
    system_text: str = ""
    """A system message for every row that has none of its own."""
    tools: Place | None = None
    """Descriptions of the tools at hand."""
    label: Place | None = None
    """Whether the last answer is good: true or false."""

    def _beside(self, record: object) -> dict[str, object]:
        """What stands beside the messages."""
        system = self._joined(record, self.system, optional=True) if self.system else ""
        row: dict[str, object] = {"system": system if not blank(system) else self.system_text}
        if self.tools:
            row["tools"] = _first(record, self.tools)
        if self.label:
            row["kto_tag"] = _one(record, self.label)
        return row


class QuestionAnswerMapping(_SpokenMapping):
    """Rows that are one question and its answer."""

    question: Places
    """The question, or its parts from top to bottom."""
    answer: Place
    """The answer."""
    instruction: str = ""
    """Words above every question."""
    thinking: Place | None = None
    """What was thought before the answer."""
    history: Place | None = None
    """Pairs of question and answer that were said before."""

    def row(self, record: object) -> Row:
        """`{"question": …, "answer": …}`."""
        asked = self._joined(record, self.question)
        if blank(asked):
            raise DataError(f"there is no question at {quoted(self.question)}", "remove the row")
        row = {**self._beside(record), "question": _under(self.instruction, asked)}
        row["answer"] = self._answer(_one(record, self.answer))
        for key, place in (("history", self.history), ("reasoning_content", self.thinking)):
            if place is not None:
                row[key] = _first(record, place)
        return row

    def _answer(self, value: object) -> object:
        return self._text(f"the text at '{self.answer}'", value) if self.strip else value


class _ListedMapping(_SpokenMapping):
    """Rows with lists of messages."""

    role: Place | None = None
    """Key of the role in a message."""
    content: Place | None = None
    """Key of the text in a message."""
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The names of our roles (user, assistant, system, tool, call) in this data set."""

    @model_validator(mode="after")
    def _roles_are_ours(self) -> Self:
        if (self.role is None) != (self.content is None):
            raise ValueError("`role` and `content` go together")
        for role in self.roles:
            if role not in ROLES:
                meant = nearest(role, ROLES)
                did_you_mean = f"; did you mean '{meant}'?" if meant else ""
                raise ValueError(f"'{role}' in `roles` is none of ours{did_you_mean}")
        return self

    def _message(self, where: str, turn: object) -> dict[str, object]:
        """A message under OpenAI's names; other keys of it stay as they are."""
        if not isinstance(turn, dict):
            raise DataError(f"{where} is {type_name(turn)}, not an object", "mend it")
        role, content = self.role or "role", self.content or "content"
        name, words = _one(turn, role, where), _one(turn, content, where)
        ours = next((ROLES[our] for our, names in self.roles.items() if name in names), name)
        if self.strip:
            words = self._text(f"{where}: '{content}'", words)
        rest = {key: value for key, value in turn.items() if key not in (role, content)}
        return {**rest, "role": ours, "content": words}

    def _messages(self, place: str, values: list[object]) -> list[object]:
        return [
            self._message(f"message {number} at '{place}'", value)
            for number, value in enumerate(values, 1)
        ]


class ConversationMapping(_ListedMapping):
    """Rows that are conversations, as a list of messages or of question-answer turns."""

    messages: Place | None = Field(None, alias="list")
    """The messages: objects with `role` and `content`, or texts, the user's first."""
    turns: Place | None = None
    """The turns: objects with a question under `user` and an answer under `assistant`."""
    user: Place | None = None
    """Key of the question in a turn."""
    assistant: Place | None = None
    """Key of the answer in a turn."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.messages is None) == (self.turns is None):
            raise ValueError("give either `list` or `turns`")
        if (self.turns is None) != (self.user is None) or bool(self.user) != bool(self.assistant):
            raise ValueError("`turns`, `user` and `assistant` go together")
        return self

    def row(self, record: object) -> Row:
        """`{"messages": […]}`."""
        return {**self._beside(record), "messages": self._said(record)}

    def _said(self, record: object) -> list[object]:
        if self.turns is not None:
            return self._exchanges(self.turns, _elements(record, self.turns))
        place = cast(str, self.messages)
        values = _elements(record, place)
        if self.role is not None:
            return self._messages(place, values)
        return [
            {
                "role": "assistant" if number % 2 else "user",
                "content": self._text(f"element {number + 1} of '{place}'", value),
            }
            for number, value in enumerate(values)
        ]

    def _exchanges(self, place: str, turns: list[object]) -> list[object]:
        keys = {"user": cast(str, self.user), "assistant": cast(str, self.assistant)}
        return [
            {"role": role, "content": self._text(f"{where}: '{key}'", _one(turn, key, where))}
            for number, turn in enumerate(turns, 1)
            for role, key in keys.items()
            if (where := f"turn {number} at '{place}'")
        ]


class PreferenceMapping(_ListedMapping):
    """Rows that are a prompt and two answers, of which one is better."""

    chosen: Place
    """The better answer: a text, a message, or messages."""
    rejected: Place
    """The worse answer."""
    question: Places | None = None
    """The question, or its parts from top to bottom."""
    prompt: Place | None = None
    """The messages before the answers, instead of `question`."""
    history: Place | None = None
    """Pairs of question and answer that were said before the question."""

    def row(self, record: object) -> Row:
        """`{"messages": […], "chosen": …, "rejected": …}`."""
        row = self._beside(record)
        if self.prompt is not None:
            row["messages"] = self._messages(self.prompt, _elements(record, self.prompt))
        if self.question is not None:
            row["question"] = self._joined(record, self.question)
        if self.history:
            row["history"] = _first(record, self.history)
        for key, place in (("chosen", self.chosen), ("rejected", self.rejected)):
            row[key] = self._answer(place, _one(record, place))
        return row

    def _answer(self, place: str, value: object) -> object:
        if isinstance(value, list):
            return self._messages(place, value)
        if isinstance(value, dict):
            return [self._message(f"the message at '{place}'", value)]
        return self._text(f"the text at '{place}'", value)


TABLES: Final[dict[str, type[Mapping]]] = {
    "text": TextMapping,
    "question_answer": QuestionAnswerMapping,
    "conversation": ConversationMapping,
    "preference": PreferenceMapping,
}


def read_mapping(file: Path) -> Mapping:
    """Read a mapping from a TOML file; a ConfigError names the key that cannot be meant."""
    tables = read_toml(file, 'key = "value"')
    if len(tables) != 1:
        names = ", ".join(f"[{name}]" for name in TABLES)
        raise ConfigError(f"{file} has {len(tables)} tables, not one", f"one of {names}")
    name, values = next(iter(tables.items()))
    if name not in TABLES or not isinstance(values, dict):
        raise _unknown(f"table [{name}] in {file}", name, list(TABLES))
    return mapping_of(f"[{name}] in {file}", TABLES[name], values)


def mapping_of(where: str, table: type[Mapping], values: dict[str, Any]) -> Mapping:
    """A mapping from the keys and values of its table."""
    known = [field.alias or name for name, field in table.model_fields.items()]
    for key in values:
        if key not in known:
            raise _unknown(f"key `{key}` of {where}", key, known)
    try:
        return table(**values)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = f"`{detail['loc'][0]}` of " if detail["loc"] else ""
        reason = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        wanted = ", ".join(
            field.alias or name for name, field in table.model_fields.items() if field.is_required()
        )
        hint = f"it needs {wanted}" if detail["type"] == "missing" else "see the guide to layouts"
        raise ConfigError(f"{key}{where}: {reason[:1].lower()}{reason[1:]}", hint) from None


def _unknown(what: str, name: str, known: list[str]) -> ConfigError:
    meant = nearest(name, known)
    hint = f"did you mean `{meant}`?" if meant else f"known: {', '.join(known)}"
    return ConfigError(f"unknown {what}", hint)


def _under(above: str, text: str) -> str:
    return f"{above}\n{text}" if not blank(above) else text


def _at(record: object, place: str, *, optional: bool = False) -> list[object]:
    """The values at a place; one that is missing is an error, or is left out."""
    found = [record]
    names = [place] if isinstance(record, dict) and place in record else place.split(".")
    for name in names:
        found = [value for one in found for value in _step(one, name)]
    if not found and not optional:
        keys = quoted(record) if isinstance(record, dict) else type_name(record)
        raise DataError(f"nothing at '{place}'; the row has {keys}", "mend the mapping or the row")
    return found


def _step(value: object, name: str) -> list[object]:
    if name == "*" and isinstance(value, dict | list):
        return list(value.values()) if isinstance(value, dict) else value
    if isinstance(value, list) and name.isdecimal():
        return value[int(name) : int(name) + 1]
    return [value[name]] if isinstance(value, dict) and name in value else []


def _one(record: object, place: str, where: str = "") -> object:
    found = _at(record, place)
    if len(found) != 1:
        raise DataError(f"{where}{len(found)} values at '{place}', not one", "mend the mapping")
    return found[0]


def _first(record: object, place: str) -> object:
    """The value at a place where there may be none."""
    return next(iter(_at(record, place, optional=True)), None)


def _elements(record: object, place: str) -> list[object]:
    found = _at(record, place)
    listed = found[0] if len(found) == 1 and "*" not in place else found
    if isinstance(listed, dict):
        raise DataError(
            f"'{place}' is an object, not a list: {shown(list(listed))}",
            f"write '{place}.*' for its values",
        )
    return as_list(f"'{place}'", listed)
