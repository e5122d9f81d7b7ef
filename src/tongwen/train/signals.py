"""SIGTERM and SIGINT: a run finishes its step, saves, and leaves with 143 or 130.

An evaluation is not waited for: it is left at once and made again when the run goes on. A second
signal ends the process where it stands, which the run folder survives like any other end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self, TypeVar

from tongwen.train.processes import exchange, world

NUMBERS = (signal.SIGTERM, signal.SIGINT)

T = TypeVar("T")


class Break(BaseException):
    """A signal ended what may be left halfway."""


class Signals:
    """Catches the signals that end a run, while the `with` block lasts."""

    def __init__(self) -> None:
        self.caught: int | None = None
        """The number of the signal that came."""
        self._armed = False

    def agree(self) -> None:
        """Take a signal to any process for one's own, so that all stop after the same step."""
        self.caught = max(exchange(self.caught or 0)) or None

    def __enter__(self) -> Self:
        # Only the main thread may handle signals.
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = {number: signal.signal(number, self._catch) for number in NUMBERS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._main:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def breakable(self, work: Callable[[], T]) -> T:
        """Do what may be left halfway; raises Break if a signal came before or comes meanwhile."""
        if world() > 1:
            # The processes do it together, and none may leave the others waiting.
            return work()
        if self.caught is not None:
            raise Break
        # Armed for the work alone: whoever called it tidies up undisturbed.
        self._armed = True
        result = work()
        self._armed = False
        return result

    def leave(self) -> None:
        """End all processes together, as the signal that came asks for."""
        exchange(None)
        if self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        assert self.caught is not None
        raise SystemExit(128 + self.caught)

    def _catch(self, number: int, _: FrameType | None) -> None:
        self.caught = number
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._armed:
            self._armed = False
            raise Break
