"""One of the processes that `tongwen.train.launch` starts: `python -m tongwen.train.worker`.

Says nothing of a mistake; the process that started it does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from tongwen.errors import TongwenError
from tongwen.settings import settings
from tongwen.verbs import VERBS


def main(command: str, file: Path) -> int:
    """Run a command with the settings of a file; returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    verb = next(verb for verb in VERBS if verb.function == command)
    try:
        verb.load()(settings(verb.config_class(), {}, file))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except (TongwenError, OSError):
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _end_with_parent() -> None:
    """Stop, saving, when the process that started this one is gone."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    code = main(sys.argv[1], Path(sys.argv[2]))
    sys.stderr.flush()
    # What is left of the network after a failure must not hold up the end, or change how it looks.
    os._exit(code)
