"""The two ends of a conversation in a terminal or a pipe.

Answers go to stdout, everything else to stderr. In a terminal there is a prompt, and line editing
where Python has readline; from a pipe every line is read as one typed line.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from importlib import import_module
from typing import TextIO

PROMPT = "> "
MORE = "… "
QUOTES = '"""'

# What a model makes up could otherwise steer the terminal: escape and the other control characters.
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


class Terminal:
    """Reads entries and writes answers and talk."""

    def __init__(self, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self.interactive = stdin.isatty()
        """Whether a person types."""
        self._edits = self.interactive and stdout.isatty()
        self._column = 0

    @classmethod
    def of_process(cls) -> Terminal:
        """The terminal or the pipes of this process."""
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            # A byte or a character that the locale lacks must not end the conversation.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        terminal = cls(sys.stdin, sys.stdout, sys.stderr)
        if terminal._edits:
            # From here on `input` edits lines and has a history.
            with suppress(ImportError):
                import_module("readline")
        return terminal

    def read(self) -> str | None:
        """One entry, of several lines where they are joined; None at the end of the input."""
        line = self._line(PROMPT)
        if line is None:
            return None
        if line.lstrip().startswith(QUOTES):
            return self._quoted(line.lstrip().removeprefix(QUOTES))
        lines = []
        while line is not None and line.endswith("\\"):
            lines.append(line[:-1])
            line = self._line(MORE)
        return "\n".join([*lines, line or ""])

    def say(self, text: str) -> None:
        """A line of talk."""
        self.end_line()
        print(text, file=self._stderr, flush=True)

    def write(self, piece: str) -> None:
        """A piece of an answer."""
        self._column = 0 if piece.endswith("\n") else 1
        if self._stdout.isatty():
            piece = piece.translate(VISIBLE)
        self._stdout.write(piece)
        self._stdout.flush()

    def end_line(self) -> None:
        """A newline, unless the answer stands at the beginning of a line."""
        if self._column:
            self.write("\n")

    def _quoted(self, line: str | None) -> str:
        lines = []
        while line is not None and not line.rstrip().endswith(QUOTES):
            lines.append(line)
            line = self._line(MORE)
        if line is not None:
            lines.append(line.rstrip().removesuffix(QUOTES))
        return "\n".join(lines).strip("\n")

    def _line(self, prompt: str) -> str | None:
        if self._edits:
            try:
                return input(prompt)
            except EOFError:
                return None
        if self.interactive:
            self._stderr.write(prompt)
            self._stderr.flush()
        line = self._stdin.readline()
        return line.rstrip("\r\n") if line else None
