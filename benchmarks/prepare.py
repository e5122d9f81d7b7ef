"""Raw rows to tokens on disk: Tongwen, `datasets.map` and LLaMA-Factory, on the same files.

    python benchmarks/prepare.py --tokenizer TOKENIZER --text TEXTS.jsonl --answers ALPACA.json
        --datasets DS/bin/python --llamafactory LF/bin/python [--repeats 3] [--json OUT.json]

TEXTS.jsonl has a document {"text": …} on each line, ALPACA.json rows with instruction, input and
output; neither should hold a row twice, since Tongwen would leave it out. TOKENIZER is a folder
made by `tongwen tokenizer train`. The peers are no dependencies:

    python -m venv DS;  DS/bin/pip install datasets==5.2.0 transformers==5.23.0 torch==2.13.0
    python -m venv LF;  LF/bin/pip install llamafactory==0.9.5

The job is what has to be done before the first step of training: read, tokenise (answers: through
the chat template, with the mask of what is learned), write to disk in the form that training reads.
`datasets` does it by `load_dataset`, `map(batched=True)`, `save_to_disk`, in one process, where the
tokenizer itself takes all cores, and in one process per core; LLaMA-Factory as in training with
`tokenized_path` and a `preprocessing_num_workers` of one per core. Tongwen also accounts for every
row and looks for exact duplicates meanwhile, as it always does.

Every tool runs in a process of its own with an empty cache. Its seconds are those of the work,
without the imports; the whole command stands beside it. The tools take turns, so that whatever else
the machine does meets all of them; medians are compared. Memory is the proportional set size of all
processes of a tool together, seen four times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
CORES: Final = len(os.sched_getaffinity(0))
LONGEST: Final = 2048
OURS: Final = "Tongwen"
COLUMNS: Final = (
    *("tool", "s (least–most)", "MB/s", "million tokens/s", "times ours", "whole command, s"),
    *("peak memory, MB", "on disk, MB", "rows or blocks", "tokens", "with loss"),
)


@dataclass(frozen=True)
class Tool:
    """One way to do the job."""

    name: str
    python: str
    script: str
    processes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="JSON lines of documents")
    parser.add_argument("--answers", type=Path, help="JSON array of alpaca rows")
    parser.add_argument("--datasets", help="interpreter with datasets and transformers")
    parser.add_argument("--llamafactory", help="interpreter with llamafactory")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every run to this file")
    arguments = parser.parse_args()
    tools = [Tool(OURS, sys.executable, "tongwen_prepare.py", 0)]
    if arguments.datasets:
        tools.append(Tool("datasets.map", arguments.datasets, "datasets_map.py", 0))
        name = f"datasets.map, {CORES} processes"
        tools.append(Tool(name, arguments.datasets, "datasets_map.py", CORES))
    if arguments.llamafactory:
        name = f"LLaMA-Factory, {CORES} workers"
        tools.append(Tool(name, arguments.llamafactory, "llamafactory_prepare.py", CORES))
    report = {}
    for kind in ("text", "answers"):
        if file := getattr(arguments, kind):
            runs = measure(tools, kind, file.absolute(), arguments)
            report[kind] = {"file": file.name, "bytes": file.stat().st_size, "runs": runs}
            print(table(kind, file, runs))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def measure(
    tools: list[Tool], kind: str, file: Path, arguments: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """The runs of each tool; the tools take turns."""
    runs: dict[str, list[dict[str, Any]]] = {tool.name: [] for tool in tools}
    for number in range(1, arguments.repeats + 1):
        for tool in tools:
            done = run(tool, kind, file, arguments.tokenizer.absolute())
            runs[tool.name].append(done)
            print(
                f"{kind} {number}/{arguments.repeats} {tool.name}: {done['seconds']:.2f} s, "
                f"load before it {done['load']:.1f}",
                file=sys.stderr,
            )
    return runs


def run(tool: Tool, kind: str, file: Path, tokenizer: Path) -> dict[str, Any]:
    """One run in a process, with its memory, in a folder that is gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix="prepare-"))
    job = {
        "kind": kind,
        "file": str(file),
        "tokenizer": str(tokenizer),
        "out": str(place / "out"),
        "processes": tool.processes,
        "max_length": LONGEST,
    }
    environment = {
        **os.environ,
        "HF_HOME": str(place / "cache"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    load = os.getloadavg()[0]
    command = [tool.python, str(HERE / "peers" / tool.script), json.dumps(job)]
    started = time.perf_counter()
    with (place / "said").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=environment, start_new_session=True
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.25)
        command_seconds = time.perf_counter() - started
        said.seek(0)
        lines = said.read().splitlines()
    results = [line.removeprefix("RESULT ") for line in lines if line.startswith("RESULT ")]
    if not results:
        raise SystemExit(f"{tool.name} failed:\n" + "\n".join(lines[-20:]))
    written = sum(path.stat().st_size for path in (place / "out").rglob("*") if path.is_file())
    shutil.rmtree(place)
    result: dict[str, Any] = json.loads(results[-1])
    return {
        **result,
        "command": command_seconds,
        "peak": peak,
        "written": written,
        "load": load,
    }


def memory(session: int) -> int:
    """Bytes that the processes of a session share among them."""
    total = 0
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            status = (place / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(status[3]) == session:
                rollup = (place / "smaps_rollup").read_text(encoding="utf-8")
                [size] = [line.split()[1] for line in rollup.splitlines() if line[:4] == "Pss:"]
                total += 1024 * int(size)
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return total


def table(kind: str, file: Path, runs: dict[str, list[dict[str, Any]]]) -> str:
    """Medians as Markdown, and whether the tokens are the same."""
    size = file.stat().st_size
    seconds = {
        name: statistics.median(run["seconds"] for run in done) for name, done in runs.items()
    }
    lines = [
        f"\n{file.name}: {size / 1e6:.1f} MB, {CORES} cores",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for name, done in runs.items():
        took, last = seconds[name], done[-1]
        least, most = min(run["seconds"] for run in done), max(run["seconds"] for run in done)
        cells = [
            f"{name} ({last['version']})",
            f"{took:.2f} ({least:.2f}–{most:.2f})",
            f"{size / 1e6 / took:.1f}",
            f"{last['tokens'] / 1e6 / took:.2f}",
            f"{took / seconds[OURS]:.2f}",
            f"{statistics.median(run['command'] for run in done):.1f}",
            f"{max(run['peak'] for run in done) / 1e6:.0f}",
            f"{last['written'] / 1e6:.0f}",
            f"{last['rows']:,}",
            f"{last['tokens']:,}",
            f"{last['trained']:,}" if "trained" in last else "all",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *differences(kind, runs)])


def differences(kind: str, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """In which numbers of tokens the tools differ; text counts its tokens and one end mark."""
    ours = runs[OURS][-1]
    expected = ours["trained"] if kind == "text" else ours["tokens"]
    lines = []
    for name, done in runs.items():
        if name != OURS:
            more = done[-1]["tokens"] - expected
            same = "the same tokens" if more == 0 else f"{more:+,} tokens"
            lines.append(f"{name}: {same} as we learn" if kind == "text" else f"{name}: {same}")
    return lines


if __name__ == "__main__":
    main()
