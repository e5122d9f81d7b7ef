"""`tongwen chat`: talk to a model in the terminal, or get one answer with `--prompt`.

stdout has the answers and nothing else; what the program says goes to stderr.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tongwen.apps import commands
from tongwen.apps.session import ChatSession, Turn
from tongwen.apps.terminal import Terminal
from tongwen.config import ChatConfig
from tongwen.engine import Engine, Finish, Sampling, best_of, load_engine
from tongwen.errors import ConfigError, TongwenError
from tongwen.text import decode


@dataclass(frozen=True)
class ChatResult:
    """What was asked and answered."""

    model: Path
    answer: str | None
    """The last answer."""
    finish: Finish | None
    """How the last answer ended."""
    tokens: int
    """Generated in all turns that stand."""
    seconds: float
    turns: tuple[Turn, ...]

    def __str__(self) -> str:
        # The answers are on stdout already.
        return ""


def chat(config: ChatConfig) -> ChatResult:
    """Talk to a model in the terminal, or get one answer with `prompt`."""
    if config.raw and config.system:
        raise ConfigError("plain text has no system message", hint="leave --system or --raw away")
    question = _question(config)
    terminal = Terminal.of_process()
    engine = load_engine(config.model, config.device)
    if config.reward is not None:
        return talk(config, question, best_of(engine, config.reward, config.best_of), terminal)
    return talk(config, question, engine, terminal)


def talk(
    config: ChatConfig, question: str | None, engine: Engine, terminal: Terminal
) -> ChatResult:
    """The same with an engine and a terminal of one's own; without a question, a conversation."""
    session = ChatSession(
        engine,
        Sampling.of(config),
        system=config.system or "",
        context=config.context,
        raw=config.raw,
    )
    if question is not None:
        _answer_once(session, terminal, question)
        if cut := _cut(session, "--max-new-tokens"):
            terminal.say(cut)
    else:
        if terminal.interactive:
            terminal.say(
                f"{config.model}: {session.context:,} tokens of context. "
                "/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves."
            )
        converse(session, terminal)
    turns = tuple(session.turns)
    return ChatResult(
        model=config.model,
        answer=turns[-1].answer if turns else None,
        finish=turns[-1].finish if turns else None,
        tokens=sum(turn.tokens for turn in turns),
        seconds=round(sum(turn.seconds for turn in turns), 3),
        turns=turns,
    )


def _answer_once(session: ChatSession, terminal: Terminal, question: str) -> None:
    """One answer and a newline on stdout, and nothing else there."""
    try:
        answer(session, terminal, question)
    except BaseException:
        terminal.end_line()
        raise
    terminal.write("\n")


def converse(session: ChatSession, terminal: Terminal) -> None:
    """Entries and answers until the input ends or the person leaves."""
    while True:
        try:
            entry = terminal.read()
        except KeyboardInterrupt:
            if not terminal.interactive:
                raise
            terminal.say("\nCtrl-D or /exit leaves")
            continue
        if entry is None:
            if terminal.interactive:
                terminal.say("")
            return
        try:
            if not _respond(session, terminal, entry):
                return
        except TongwenError as error:
            terminal.say(f"error: {error.message}")
            if error.hint:
                terminal.say(f"hint: {error.hint}")
        except KeyboardInterrupt:
            terminal.say("[stopped]")


def _respond(session: ChatSession, terminal: Terminal, entry: str) -> bool:
    """Do what an entry asks for; False to leave."""
    question: str | None = entry
    if entry.startswith("/") and not entry.startswith("//"):
        outcome = commands.run(session, entry)
        if outcome.text:
            terminal.say(outcome.text)
        if outcome.leave:
            return False
        question = outcome.ask
    elif entry.startswith("//"):
        question = entry[1:]
    if question is not None and (session.raw or question.strip()):
        answer(session, terminal, question)
        terminal.end_line()
        if session.turns[-1] not in session.answered:
            terminal.say("[no answer]")
        if cut := _cut(session, "/set max_new_tokens"):
            terminal.say(f"[{cut}]")
    return True


def _cut(session: ChatSession, more: str) -> str:
    """What to say where the last answer was cut."""
    turn = session.turns[-1]
    if turn.finish != "length":
        return ""
    if turn.tokens < session.sampling.max_new_tokens:
        return f"cut at {turn.tokens:,} tokens: the context of {session.context:,} is full"
    return f"cut at {turn.tokens:,} tokens; {more} gives more"


def answer(session: ChatSession, terminal: Terminal, question: str) -> None:
    """Put a question to the model and write the answer while it is made."""
    prompt = session.prompt(question)
    for note in prompt.notes:
        terminal.say(f"[{note}]")
    pieces = session.answer(prompt)
    try:
        for piece in pieces:
            terminal.write(piece)
    finally:
        pieces.close()


def _question(config: ChatConfig) -> str | None:
    """The text of `--prompt`; `-` is what stands on standard input."""
    if config.prompt is None:
        return None
    question = config.prompt
    if question == "-":
        data = sys.stdin.buffer.read()
        question = decode(data).removesuffix("\n").removesuffix("\r")
    if not config.raw and not question.strip():
        raise ConfigError("the prompt is empty", hint="ask something, or add --raw to begin a text")
    return question
