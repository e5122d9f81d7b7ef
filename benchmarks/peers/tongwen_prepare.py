"""`tongwen data prepare`, its work timed without the imports, as that of the peers is.

Run by ../prepare.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import tongwen
from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare
from tongwen.tokenizer import load_tokenizer


def main() -> None:
    job = json.loads(sys.argv[1])
    load_tokenizer(Path(job["tokenizer"]))  # imports what the peers have imported by now
    config = DataPrepareConfig(
        sources=[job["file"]],
        out=Path(job["out"]),
        tokenizer=Path(job["tokenizer"]),
        max_length=job["max_length"],
        hold_out=0.0,
        workers=job["processes"],
    )
    started = time.perf_counter()
    done = data_prepare(config)
    result = {
        "version": f"Tongwen {tongwen.__version__}",
        "seconds": time.perf_counter() - started,
        "rows": done.used,
        "tokens": done.tokens,
        "trained": done.trained_tokens,
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
