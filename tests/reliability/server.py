"""Runs commands in forked children of a process that has imported everything once.

    python -m tests.reliability.server [FAULTS.so]

Requests come on stdin, answers go to stdout, a line of JSON each.

A run costs a tenth of a second then, instead of the seconds that importing torch takes. No thread
is started before the fork.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from tests.reliability import material, mechanisms

import tongwen.replays  # noqa: F401 (whatever is imported now is not imported in every child)
from tongwen.engine import Sampling
from tongwen.errors import TongwenError
from tongwen.models.machine import matrix_peak
from tongwen.train import stages
from tongwen.verbs import VERBS

MODES = ("count", "kill", "kill halfway", "no space", "io error", "lie")
Request = dict[str, Any]


def run(request: Request, faults: ctypes.CDLL | None) -> int:
    """What a child does; returns its exit code."""
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    mechanisms.remove(request.get("without"))
    mechanisms.signal_in(
        request.get("signal_in"), request.get("nth", 1), request.get("signal", signal.SIGKILL)
    )
    log = -1
    if "log" in request:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if faults is not None:
        watched = os.fsencode(request["watch"])
        faults.faults_arm(watched, request.get("at", 0), MODES.index(request["mode"]), log)
    return act(request)


def act(request: Request) -> int:
    """The command itself, without the time that reading a command line takes."""
    if "guard" in request:
        return mechanisms.guard(request["guard"], Path(request["folder"]))
    verb = next(verb for verb in VERBS if verb.path == request["verb"])
    try:
        verb.load()(verb.config_class()(**request["settings"]))
    except TongwenError as error:
        print(f"error: {error.message}\nhint: {error.hint}")
        return 2
    except KeyboardInterrupt:
        return 130
    except SystemExit as left:
        code = left.code
    else:
        code = 0
    assert isinstance(code, int)
    return code


def serve(request: Request, faults: ctypes.CDLL | None) -> Request:
    """Fork, let the child run or kill it after a while, and say how it ended."""
    if "material" in request:
        material.make(Path(request["material"]))
        return {}
    counted, counter = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            try:
                code = run(request, faults)
            except Exception:
                traceback.print_exc()
            calls = [0, 0] if faults is None else [faults.faults_calls(), faults.faults_bytes()]
            os.write(counter, json.dumps(calls).encode())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(counter)
    if (seconds := request.get("kill_after")) is not None:
        time.sleep(seconds)
        os.kill(child, request.get("signal", signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    calls = json.loads(os.read(counted, 100) or b"[0, 0]")
    os.close(counted)
    return {"code": os.waitstatus_to_exitcode(status), "calls": calls[0], "bytes": calls[1]}


def main() -> None:
    """Answer until there are no more requests."""
    faults = None
    if len(sys.argv) > 1:
        faults = ctypes.CDLL(sys.argv[1])
        faults.faults_arm.argtypes = (ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int)
        faults.faults_calls.restype = faults.faults_bytes.restype = ctypes.c_long
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.bfloat16):
        matrix_peak(dtype)
    stages.SAMPLE = Sampling(max_new_tokens=1, temperature=0.0)
    # What a command prints goes elsewhere.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(serve(json.loads(line), faults)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
