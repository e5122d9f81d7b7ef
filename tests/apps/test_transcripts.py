"""Whole conversations: everything typed, everything printed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tongwen.apps.talk import ChatResult, talk
from tongwen.apps.terminal import Terminal
from tongwen.config import ChatConfig
from tongwen.engine import Engine
from tongwen.errors import ConfigError, DataError
from tongwen.messages import Conversation, Document, Message, parse
from tongwen.sources import iter_rows
from tongwen.testing import EchoEngine, ScriptedEngine


class Typed(io.StringIO):
    """A terminal that a person types in."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Transcript:
    """All that a conversation printed, and what it returned."""

    out: str
    err: str
    result: ChatResult


def play(
    engine: Engine,
    *lines: str,
    question: str | None = None,
    typed: bool = False,
    **settings: Any,
) -> Transcript:
    """Play a conversation of these lines."""
    text = "".join(line + "\n" for line in lines)
    stdin = Typed(text) if typed else io.StringIO(text)
    out, err = io.StringIO(), io.StringIO()
    config = ChatConfig(model=Path("m"), **settings)
    result = talk(config, question, engine, Terminal(stdin, out, err))
    return Transcript(out.getvalue(), err.getvalue(), result)


HELP = """\
  /help             this list
  /params           how answers are chosen
  /set KEY VALUE    change one of them: /set temperature 0.2
  /system TEXT      set the system message (none removes it)
  /retry            answer the last question again
  /undo             take the last question and answer back
  /clear            begin anew
  /save FILE.jsonl  write the conversation for `tongwen data prepare`
  /exit             leave

A line that ends with \\ goes on in the next; \"\"\" begins and ends a message of several
lines; // begins a message with a slash. Ctrl-C stops an answer, Ctrl-D leaves.
"""


def test_every_line_of_a_pipe_is_a_turn() -> None:
    engine = ScriptedEngine([["你", "好", "！"], "I am fine."])
    done = play(engine, "你好", "", "How are you?")
    assert done.out == "你好！\nI am fine.\n"
    assert done.err == ""
    assert engine.requests[1].prompt == (
        Message("user", "你好"),
        Message("assistant", "你好！"),
        Message("user", "How are you?"),
    )
    assert done.result.answer == "I am fine."
    assert (done.result.finish, done.result.tokens) == ("stop", 6)
    assert [turn.question for turn in done.result.turns] == ["你好", "How are you?"]


def test_a_person_is_greeted_and_prompted() -> None:
    done = play(EchoEngine(), "hi", typed=True)
    assert done.out == "hi\n"
    assert done.err == (
        "m: 512 tokens of context. /help lists the commands, Ctrl-C stops an answer, "
        "Ctrl-D leaves.\n> > \n"
    )


def test_a_model_cannot_steer_the_terminal() -> None:
    out = Typed()
    terminal = Terminal(io.StringIO("x\n"), out, io.StringIO())
    talk(ChatConfig(model=Path("m")), None, ScriptedEngine(["a\x1b[2J\x9b1m\tb\n"]), terminal)
    assert out.getvalue() == "a␛[2J�1m\tb\n"


def test_one_answer() -> None:
    engine = ScriptedEngine(["42"])
    done = play(engine, question="6 * 7?", system="Be short.", temperature=0.0)
    assert (done.out, done.err) == ("42\n", "")
    assert engine.requests[0].prompt == (Message("system", "Be short."), Message("user", "6 * 7?"))
    assert engine.requests[0].sampling.temperature == 0


def test_one_answer_that_is_cut() -> None:
    done = play(EchoEngine(), question="too long", max_new_tokens=3)
    assert done.out == "too\n"
    assert done.err == "cut at 3 tokens; --max-new-tokens gives more\n"
    assert done.result.finish == "length"


def test_plain_text_is_continued() -> None:
    engine = ScriptedEngine([" upon a time", "从前"])
    assert play(engine, question="Once", raw=True).out == " upon a time\n"
    assert play(engine, question="", raw=True).out == "从前\n"
    assert [request.prompt for request in engine.requests] == ["Once", ""]


def test_plain_text_has_no_history() -> None:
    engine = ScriptedEngine(["b", "d", "e"])
    done = play(engine, "a", "c", "/system x", "/retry", raw=True)
    assert done.out == "b\nd\ne\n"
    assert done.err == "error: plain text has no system message\nhint: start without --raw\n"
    assert [request.prompt for request in engine.requests] == ["a", "c", "c"]


def test_commands() -> None:
    engine = ScriptedEngine(["one", "two", "three", "four"])
    done = play(
        engine,
        "/help",
        "/system",
        "/system 你是助手",
        "/system",
        "/set seed 7",
        "first",
        "/retry",
        "second",
        "/undo",
        "/clear",
        "/undo",
        "/retry",
        "/system none",
        "//slash",
        "/exit",
        "never asked",
    )
    assert done.out == "one\ntwo\nthree\nfour\n"
    assert done.err == (
        HELP
        + "no system message\n"
        + "system message set\n"
        + "system: 你是助手\n"
        + "seed is 7\n"
        + "the same again: temperature is 0 or seed is set\n"
        + "taken back: second\n"
        + "history cleared; the system message stays\n"
        + "error: there is nothing to take back\n"
        + "error: there is no answer yet to try again\n"
        + "system message removed\n"
    )
    assert [request.prompt[-1] for request in engine.requests] == [
        Message("user", text) for text in ("first", "first", "second", "/slash")
    ]
    assert engine.requests[1].prompt[0] == Message("system", "你是助手")
    assert len(engine.requests[3].prompt) == 1


def test_parameters() -> None:
    engine = ScriptedEngine(["ok"])
    done = play(
        engine,
        "/set temperature 0.2",
        "/set top-k=5",
        "/set max_new_tokens 100",
        "/set seed 3",
        "/set seed none",
        "/params",
        "hi",
    )
    assert done.err == (
        "temperature is 0.2\ntop_k is 5\nmax_new_tokens is 100\nseed is 3\nseed is none\n"
        "  max_new_tokens      100   Longest answer in tokens.\n"
        "  temperature         0.2   Randomness; 0 always takes the likeliest token.\n"
        "  top_p               0.9   Smallest set of tokens with this probability together.\n"
        "  top_k               5     Only the k likeliest tokens; 0 for all.\n"
        "  repetition_penalty  1.0   Divides the scores of tokens that already stand in the text; "
        "1 for none.\n"
        "  seed                none  Seed of the choices; without one every answer differs.\n"
        "context: 512 tokens, 412 for the history\n"
    )
    sampling = engine.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.max_new_tokens) == (0.2, 5, 100)


MISTAKES = {
    "/hlep": ("unknown command /hlep", "did you mean /help?"),
    "/etc/passwd": (
        "unknown command /etc/passwd",
        "/help lists the commands; a message that begins with a slash is written with two",
    ),
    "/set temprature 1": ("no parameter `temprature`", "did you mean temperature?"),
    "/set temp 1": ("no parameter `temp`", "did you mean temperature?"),
    "/set": (
        "no parameter is given",
        "parameters: max_new_tokens, temperature, top_p, top_k, repetition_penalty, seed",
    ),
    "/set temperature hot": (
        "`hot` is no value of temperature (number ≥ 0 and ≤ 5)",
        "randomness; 0 always takes the likeliest token",
    ),
    "/set top_p 1.5": (
        "`1.5` is no value of top_p (number > 0 and ≤ 1)",
        "smallest set of tokens with this probability together",
    ),
    "/set max_new_tokens 1.5": (
        "`1.5` is no value of max_new_tokens (integer > 0)",
        "longest answer in tokens",
    ),
    "/set top_k": ("no value of top_k is given", "/set top_k takes integer ≥ 0"),
    "/save": ("no file is given", "/save FILE.jsonl"),
    "/save /no/x.jsonl": ("there is nothing to save yet", None),
}


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_do_not_end_the_conversation(line: str) -> None:
    message, hint = MISTAKES[line]
    done = play(EchoEngine(), line, "still here")
    assert done.out == "still here\n"
    assert done.err == f"error: {message}\n" + (f"hint: {hint}\n" if hint else "")


def test_messages_of_several_lines() -> None:
    engine = ScriptedEngine(["1", "2", "3", "4"])
    play(
        engine,
        "one \\",
        "two\\",
        "three",
        '"""',
        "  def f():",
        "",
        "/help is text here",
        '"""',
        '"""all in one line"""',
        '"""never closed',
        "end",
    )
    assert [request.prompt[-1] for request in engine.requests] == [
        Message("user", "one \ntwo\nthree"),
        Message("user", "  def f():\n\n/help is text here"),
        Message("user", "all in one line"),
        Message("user", "never closed\nend"),
    ]


def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    engine = ScriptedEngine([["so ", "far", KeyboardInterrupt()], [KeyboardInterrupt()], "on"])
    done = play(engine, "tell me", "and?", "more")
    assert done.out == "so far\non\n"
    assert done.err == "[stopped]\n[stopped]\n"
    assert [turn.finish for turn in done.result.turns] == ["interrupted", "interrupted", "stop"]
    assert Message("assistant", "so far") in engine.requests[2].prompt


def test_ctrl_c_in_the_only_answer_leaves_a_whole_line() -> None:
    engine = ScriptedEngine([["half", KeyboardInterrupt()]])
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        talk(ChatConfig(model=Path("m")), "?", engine, Terminal(io.StringIO(), out, io.StringIO()))
    assert out.getvalue() == "half\n"


def test_an_engine_that_refuses_does_not_end_the_conversation() -> None:
    engine = ScriptedEngine([[DataError("no", hint="yes")], ["half", DataError("lost")], "fine"])
    done = play(engine, "a", "b", "c")
    assert done.out == "half\nfine\n"
    assert done.err == "error: no\nhint: yes\nerror: lost\n"
    assert [turn.question for turn in done.result.turns] == ["c"]


def test_an_empty_answer_and_a_cut_one_are_told() -> None:
    done = play(ScriptedEngine(["", ["a", "b", "c"]]), "1", "2", max_new_tokens=2)
    assert done.out == "ab\n"
    assert done.err == "[no answer]\n[cut at 2 tokens; /set max_new_tokens gives more]\n"


def test_an_answer_ends_with_the_context() -> None:
    done = play(EchoEngine(context=40), "q" * 14, "q" * 14, max_new_tokens=25)
    assert done.out == "q" * 14 + "\n" + "q" * 14 + "\n"
    done = play(ScriptedEngine([["a"] * 50], context=40), "q" * 14, max_new_tokens=25)
    assert done.err == "[cut at 20 tokens: the context of 40 is full]\n"


def test_the_model_does_not_see_empty_answers() -> None:
    engine = ScriptedEngine(["", "b"])
    play(engine, "first", "second")
    assert engine.requests[1].prompt == (Message("user", "second"),)


def test_what_is_dropped_is_told_once() -> None:
    # 64 tokens: 32 for the prompt; a turn of 4+4 letters takes 14, the header 3.
    engine = ScriptedEngine(["AAAA", "BBBB", "CCCC", "DDDD", "E"], context=64)
    done = play(engine, "aaaa", "bbbb", "cccc", "dddd", "/retry", max_new_tokens=40)
    assert done.err == (
        "[turn 1 no longer fits in 32 tokens; the model does not see it]\n"
        "[turn 2 no longer fits in 32 tokens; the model does not see it]\n"
    )
    assert [len(request.prompt) for request in engine.requests] == [1, 3, 3, 3, 3]
    assert [turn.question for turn in done.result.turns] == ["aaaa", "bbbb", "cccc", "dddd"]


def test_a_long_question_is_shortened_and_told() -> None:
    engine = ScriptedEngine(["ok", "ok"], context=64)
    done = play(engine, "q" * 500, system="s" * 10)
    assert done.err == "[the question is too long for 32 tokens; its middle is left out]\n"
    assert engine.requests[0].prompt == (
        Message("system", "s" * 10),
        Message("user", "qqqqq … qqqqq"),
    )
    done = play(engine, "hello", system="s" * 500)
    assert done.err == ("[the system message is longer than 32 tokens; its middle is left out]\n")
    assert engine.requests[1].prompt[-1] == Message("user", "hello")


def test_a_context_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than the model's 512"):
        play(EchoEngine(), context=1000)
    with pytest.raises(ConfigError, match="too small for a conversation"):
        play(EchoEngine(), context=12)


def test_saved_conversations_are_rows_to_train_on(tmp_path: Path) -> None:
    path = tmp_path / "对话.jsonl"
    engine = ScriptedEngine(["你好", "", ["part", KeyboardInterrupt()], "z"])
    done = play(
        engine, "hi", "nothing", "go on", f"/save {path}", "more", f"/save {path}",
        system="S", typed=False,
    )  # fmt: skip
    note = "; 1 unfinished answer among them"
    assert done.err == f"[no answer]\n[stopped]\nsaved {path}{note}\nreplaced {path}{note}\n"
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert "你好" in line
    messages = (
        Message("system", "S"),
        *(Message("user", "hi"), Message("assistant", "你好")),
        *(Message("user", "go on"), Message("assistant", "part")),
        *(Message("user", "more"), Message("assistant", "z")),
    )
    assert parse(json.loads(line)) == Conversation(messages)
    assert len(list(iter_rows([path]))) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_others_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("precious\n", encoding="utf-8")
    done = play(EchoEngine(), "hi", f"/save {path}")
    assert done.err == (
        f"error: {path} exists already\nhint: /save --replace {path}, or another name\n"
    )
    assert path.read_text(encoding="utf-8") == "precious\n"
    done = play(EchoEngine(), "hi", f"/save --replace {path}")
    assert done.err == f"replaced {path}\n"
    assert path.read_text(encoding="utf-8").startswith('{"messages"')


def test_saved_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    play(ScriptedEngine(["b", "d"]), "a", "c", f"/save {path}", raw=True)
    rows = [parse(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [Document("ab"), Document("cd")]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = play(EchoEngine(), "hi", f"/save {tmp_path}/no/x.jsonl", "still here")
    assert done.out == "hi\nstill here\n"
    assert done.err.startswith("error: ")
