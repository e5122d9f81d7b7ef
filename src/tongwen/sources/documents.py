"""Documents, parsed by a child process within limits; see `child.py`.

One child serves document after document. One that fails to answer in time or dies is replaced, and
its document is a Reject. The result comes through a nameless file, never through a name that others
could see, so nothing is left behind whatever is killed.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import IO, BinaryIO, Final

from tongwen.errors import DataError
from tongwen.sources.compressed import Content, seekable
from tongwen.sources.rows import Reject, Row


@dataclass(frozen=True)
class Limits:
    """What one document may cost."""

    seconds: int = 120
    """Of processor time; three times as many by the clock."""
    memory: int = 3 << 30
    """Bytes of address space."""
    result: int = 256_000_000
    """Bytes of text."""


LIMITS: Final = Limits()
DOCUMENTS: Final = 500
"""Documents after which a child is replaced, should it leak."""
THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def document_rows(content: Content, form: str, limits: Limits = LIMITS) -> Iterator[Row | Reject]:
    """The rows of one document; one Reject where there are none."""
    with ExitStack() as opened:
        out = opened.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n"))
        document = opened.enter_context(seekable(content))
        problem = _parse(form, document, out, limits)
        if problem is not None and form != "Excel":
            yield Reject(content.name, 1, problem.message, problem.hint)
            return
        out.seek(0)
        line = 0
        for text in out:
            if not text.endswith("\n"):
                break
            row = json.loads(text)
            name, line = content.name / (row["sheet"] or ""), row["line"]
            if "reason" in row:
                yield Reject(name, line, row["reason"], row["hint"])
            else:
                yield Row(name, line, row["record"])
        if problem is not None:
            yield Reject(content.name, line + 1, problem.message, problem.hint)


class _Child:
    """A running parser."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tongwen.sources.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A library that reserves memory for each core would use up the address space.
                env=os.environ | dict.fromkeys(THREADS, "1"),
            )
        self._channel = ours
        self.owner = os.getpid()
        self.served = 0

    def parse(self, form: str, document: IO[bytes], out: IO[str], limits: Limits) -> bytes:
        """The child's answer; empty if it died, a TimeoutError if it does not come."""
        self.served += 1
        request = json.dumps({"form": form, **asdict(limits)}).encode()
        answer = b""
        try:
            socket.send_fds(self._channel, [request], [document.fileno(), out.fileno()])
            while not answer.endswith(b"\n"):
                ready, _, _ = select.select([self._channel], [], [], 3 * limits.seconds)
                if not ready:
                    raise TimeoutError
                piece = self._channel.recv(65536)
                if not piece:
                    return b""
                answer += piece
        except (BrokenPipeError, ConnectionResetError):
            return b""
        return answer

    def end(self) -> int:
        """Kill the process; its exit status."""
        self._channel.close()
        if self.owner != os.getpid():
            return 0
        self._process.kill()
        return self._process.wait()

    def status(self) -> int:
        """Exit status of a process that has died."""
        self._channel.close()
        return self._process.wait()


_lock = threading.Lock()
_running: list[_Child] = []


def _parse(form: str, document: BinaryIO, out: IO[str], limits: Limits) -> DataError | None:
    """Have a document parsed into `out`; what went wrong, if so."""
    with _lock:
        child = _child()
        try:
            answer = child.parse(form, document, out, limits)
        except BaseException as error:
            _running.clear()
            child.end()
            if not isinstance(error, TimeoutError):
                raise
            return _too_slow(limits)
        if not answer:
            _running.clear()
            return _died(child.status(), limits)
    problem = json.loads(answer)
    return DataError(*problem) if problem else None


def _child() -> _Child:
    """The running child of this process, or a new one."""
    # After a fork the child belongs to the other process.
    if _running and (_running[0].owner != os.getpid() or _running[0].served >= DOCUMENTS):
        _running.pop().end()
    if not _running:
        _running.append(_Child())
    return _running[0]


@atexit.register
def _end() -> None:
    while _running:
        _running.pop().end()


def _died(status: int, limits: Limits) -> DataError:
    if status == -signal.SIGXCPU:
        return _too_slow(limits)
    if status == -signal.SIGKILL:
        return DataError("its parser was killed, perhaps for want of memory", "split the document")
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return DataError(f"its parser broke down ({name})", "save it again with the program it is from")


def _too_slow(limits: Limits) -> DataError:
    return DataError(
        f"not parsed within {limits.seconds} seconds", "split it, or save it in a simpler form"
    )
