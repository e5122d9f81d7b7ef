"""The commands inside a conversation: what begins with a slash is for the program.

A command changes the session and returns what to say about it; whatever is wrong with it raises a
TongwenError, and the conversation goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tongwen.apps.session import ChatSession
from tongwen.config import SamplingConfig
from tongwen.engine import Sampling
from tongwen.errors import ConfigError, DataError
from tongwen.files import write_whole
from tongwen.settings import describe, nearest

REPLACE = "--replace"


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    text: str = ""
    ask: str | None = None
    """A question to put to the model now."""
    leave: bool = False


@dataclass(frozen=True)
class Command:
    """One command: how it is written, what it does."""

    usage: str
    help: str
    run: Callable[[ChatSession, str], Outcome]


def run(session: ChatSession, line: str) -> Outcome:
    """Do what a line that begins with a slash asks for."""
    name, _, rest = line.removeprefix("/").partition(" ")
    if name not in COMMANDS:
        meant = nearest(name, COMMANDS)
        raise ConfigError(
            f"unknown command /{name}",
            hint=f"did you mean /{meant}?"
            if meant
            else "/help lists the commands; a message that begins with a slash is written with two",
        )
    return COMMANDS[name].run(session, rest.strip())


def _help(_: ChatSession, __: str) -> Outcome:
    width = max(len(command.usage) for command in COMMANDS.values()) + 2
    lines = [f"  {one.usage.ljust(width)}{one.help}" for one in COMMANDS.values()]
    lines += [
        "",
        'A line that ends with \\ goes on in the next; """ begins and ends a message of several',
        "lines; // begins a message with a slash. Ctrl-C stops an answer, Ctrl-D leaves.",
    ]
    return Outcome("\n".join(lines))


def _params(session: ChatSession, _: str) -> Outcome:
    values = {key: getattr(session.sampling, key) for key in SamplingConfig.model_fields}
    shown = {key: "none" if value is None else str(value) for key, value in values.items()}
    wide, high = max(map(len, shown)) + 2, max(map(len, shown.values())) + 2
    lines = [
        f"  {key.ljust(wide)}{value.ljust(high)}{describe(SamplingConfig, key)[2]}"
        for key, value in shown.items()
    ]
    if not session.raw:
        lines.append(f"context: {session.context:,} tokens, {session.budget:,} for the history")
    return Outcome("\n".join(lines))


def _set(session: ChatSession, rest: str) -> Outcome:
    key, _, value = rest.replace("=", " ", 1).partition(" ")
    key, value = key.replace("-", "_"), value.strip()
    known = SamplingConfig.model_fields
    if key not in known:
        short = [name for name in known if key and name.startswith(key)]
        meant = short[0] if short else nearest(key, known)
        raise ConfigError(
            f"no parameter `{key}`" if key else "no parameter is given",
            hint=f"did you mean {meant}?" if meant else f"parameters: {', '.join(known)}",
        )
    allowed, _, text = describe(SamplingConfig, key)
    if not value:
        raise ConfigError(f"no value of {key} is given", hint=f"/set {key} takes {allowed}")
    given = {name: getattr(session.sampling, name) for name in known}
    given[key] = None if value == "none" else value
    try:
        session.sampling = Sampling.of(SamplingConfig.model_validate(given))
    except ValidationError:
        raise ConfigError(
            f"`{value}` is no value of {key} ({allowed})",
            hint=f"{text[:1].lower()}{text[1:].rstrip('.')}",
        ) from None
    new = getattr(session.sampling, key)
    return Outcome(f"{key} is {'none' if new is None else new}")


def _system(session: ChatSession, rest: str) -> Outcome:
    if session.raw:
        raise ConfigError("plain text has no system message", hint="start without --raw")
    if not rest:
        return Outcome(f"system: {session.system}" if session.system else "no system message")
    session.system = "" if rest == "none" else rest
    return Outcome("system message set" if session.system else "system message removed")


def _retry(session: ChatSession, _: str) -> Outcome:
    last = session.undo()
    if last is None:
        raise ConfigError("there is no answer yet to try again")
    same = session.sampling.temperature == 0 or session.sampling.seed is not None
    text = "the same again: temperature is 0 or seed is set" if same else ""
    return Outcome(text, ask=last.question)


def _undo(session: ChatSession, _: str) -> Outcome:
    last = session.undo()
    if last is None:
        raise ConfigError("there is nothing to take back")
    line = " ".join(last.question.split())
    return Outcome(f"taken back: {line[:60]}{'…' if len(line) > 60 else ''}")


def _clear(session: ChatSession, _: str) -> Outcome:
    session.clear()
    return Outcome(
        "history cleared; the system message stays" if session.system else "history cleared"
    )


def _save(session: ChatSession, rest: str) -> Outcome:
    name = rest.removeprefix(REPLACE).strip()
    if not name:
        raise ConfigError("no file is given", hint="/save FILE.jsonl")
    path = Path(name).expanduser()
    existed = path.exists()
    if existed and path not in session.saved and not rest.startswith(f"{REPLACE} "):
        raise ConfigError(f"{path} exists already", hint=f"/save {REPLACE} {name}, or another name")
    records = session.records()
    if not records:
        raise DataError("there is nothing to save yet")
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    try:
        write_whole(path, "".join(lines))
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None
    session.saved.add(path)
    stopped = sum(turn.finish == "interrupted" for turn in session.turns)
    note = f"; {stopped} unfinished answer{'s' * (stopped > 1)} among them" if stopped else ""
    return Outcome(f"{'replaced' if existed else 'saved'} {path}{note}")


def _exit(_: ChatSession, __: str) -> Outcome:
    return Outcome(leave=True)


COMMANDS = {
    "help": Command("/help", "this list", _help),
    "params": Command("/params", "how answers are chosen", _params),
    "set": Command("/set KEY VALUE", "change one of them: /set temperature 0.2", _set),
    "system": Command("/system TEXT", "set the system message (none removes it)", _system),
    "retry": Command("/retry", "answer the last question again", _retry),
    "undo": Command("/undo", "take the last question and answer back", _undo),
    "clear": Command("/clear", "begin anew", _clear),
    "save": Command("/save FILE.jsonl", "write the conversation for `tongwen data prepare`", _save),
    "exit": Command("/exit", "leave", _exit),
}
