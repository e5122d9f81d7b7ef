"""Live progress on stderr: a bar in a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

# Seconds between two lines where stderr is not a terminal.
LINE_EVERY = 10.0
BAR = 24


def duration(seconds: float) -> str:
    """`75.2` → `1:15`; hours only where there are some."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def counted(number: int, name: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def say(text: str = "") -> None:
    """A line of talk on stderr."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """How far one stage is. `advance` may be called as often as one likes."""

    def __init__(self, stage: str, total: int, done: int = 0) -> None:
        self._stage, self._total, self._first, self._done = stage, total, done, done
        self._begin = self._shown = time.monotonic()
        self._fields = ""
        console = Console(file=sys.stderr)
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if self._live:
            self._live.stop()
        elif failed is None and self._done > self._first:
            say(self._line())

    def advance(self, done: int, **fields: str) -> None:
        """`done` of the total are done; `fields` are shown as they are."""
        self._done = done
        self._fields = "  ".join(f"{name} {value}" for name, value in fields.items())
        now = time.monotonic()
        if self._live:
            self._live.update(self._row())
        elif now - self._shown >= LINE_EVERY:
            self._shown = now
            say(self._line())

    def talk(self, text: str) -> None:
        """A line above the bar."""
        if self._live:
            self._live.console.print(Text(text))
        else:
            say(text)

    def _left(self) -> str:
        done = self._done - self._first
        if done <= 0:
            return "?"
        spent = time.monotonic() - self._begin
        return duration(spent / done * (self._total - self._done))

    def _line(self) -> str:
        return (
            f"{self._stage}  {self._done}/{self._total}  {self._fields}  {self._left()} left"
        ).replace("    ", "  ")

    def _row(self) -> Table:
        filled = round(BAR * self._done / max(1, self._total))
        row = Table.grid(padding=(0, 2))
        row.add_row(
            Text(self._stage, style="bold"),
            Text("━" * filled, style="green") + Text("━" * (BAR - filled), style="dim"),
            f"{self._done}/{self._total}",
            self._fields,
            f"{self._left()} left",
        )
        return row
