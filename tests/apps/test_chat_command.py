"""The command itself: a real model folder, pipes, and a real terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tongwen
from tongwen.cli import main
from tongwen.engine import Sampling, load_engine
from tongwen.messages import Message
from tongwen.testing import tiny_model

PATIENCE = 20.0
SLOW = """
import fcntl, signal, termios, time
from tongwen.apps.talk import talk
from tongwen.apps.terminal import Terminal
from tongwen.config import ChatConfig
from tongwen.engine import Generation, Token
from tongwen.testing import EchoEngine

class Slow(EchoEngine):
    def stream(self, messages, sampling):
        def tokens():
            for number in range(1000):
                yield Token(f"{messages[-1].content}{number} ")
                time.sleep(0.01)
        return Generation(1, tokens())

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
# Started in the background, the tests would pass on that Ctrl-C is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
result = talk(ChatConfig(model="slow"), None, Slow(), Terminal.of_process())
print("left after", [turn.finish for turn in result.turns])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def answer(model: Path, question: str) -> str:
    sampling = Sampling(temperature=0.0, max_new_tokens=20)
    return "".join(load_engine(model).stream([Message("user", question)], sampling))


def words(model: Path, *more: str) -> list[str]:
    start = ["chat", "--model", str(model), "--temperature", "0", "--max-new-tokens", "20"]
    return [*start, *more]


def test_one_answer_and_its_account(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(model, "--prompt", "你好", "--json")) == 0
    text, _, line = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    wanted = answer(model, "你好")
    assert text == wanted
    result = json.loads(line)
    assert (result["answer"], result["tokens"], result["finish"]) == (wanted, 20, "length")
    assert result["turns"][0]["question"] == "你好"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_the_prompt_may_come_from_a_pipe(
    model: Path,
    encoding: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question = "今天天气很好，我们一起去公园散步，好吗？"
    data = io.BytesIO(f"{question}\n".encode(encoding))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    assert main(words(model, "--prompt", "-")) == 0
    assert capsys.readouterr().out == answer(model, question) + "\n"


def test_bytes_that_are_no_text_do_not_end_a_conversation(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.BytesIO(b"\xff\xfe?\n/exit\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data, encoding="utf-8"))
    assert main(words(model)) == 0
    assert capsys.readouterr().out == answer(model, "��?") + "\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prompt", " "], "the prompt is empty"),
        (["--raw", "--system", "x"], "plain text has no system message"),
        (["--prompt", "x", "--context", "9999"], "more than the model's 256"),
        (["--prompt", "x" * 300, "--raw"], "the prompt has 301 tokens"),
    ],
)
def test_mistakes(
    model: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(model, *more)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert "\nhint: " in printed.err


class Screen:
    """The other end of a terminal in which a program runs."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        """Read until the text has appeared since the last call."""
        begin = time.monotonic()
        while text not in self.text:
            left = begin + PATIENCE - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(0.0, left))
            assert ready, f"no {text!r} in {self.text!r}"
            self.text += os.read(self._master, 4096).decode("utf-8", "replace")
        self.text = self.text.partition(text)[2]


@pytest.fixture
def screen() -> Iterator[Screen]:
    master, slave = pty.openpty()
    source = str(Path(tongwen.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": source, "PYTHONUTF8": "1", "TERM": "dumb"},
    )
    os.close(slave)
    try:
        yield Screen(master)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_ctrl_c_and_ctrl_d_in_a_real_terminal(screen: Screen) -> None:
    screen.wait_for("Ctrl-D leaves.")
    screen.wait_for("> ")
    screen.type("你\n")
    screen.wait_for("你5 ")
    screen.type("\x03")
    screen.wait_for("[stopped]")
    screen.wait_for("> ")
    screen.type("not sent")
    screen.wait_for("not sent")
    # readline looks for signals before it waits for keys; one in between it sees at the next key.
    time.sleep(0.2)
    screen.type("\x03")
    screen.wait_for("Ctrl-D or /exit leaves")
    screen.wait_for("> ")
    screen.type("b\n")
    screen.wait_for("b5 ")
    screen.type("\x03")
    screen.wait_for("[stopped]")
    screen.wait_for("> ")
    screen.type("\x04")
    screen.wait_for("left after ['interrupted', 'interrupted']")
