"""What the training benchmarks have in common: engines in turn, ratios, tables.

The engines of a case take turns, round after round, so that whatever else the machine does meets
all of them; medians of the rounds are compared. The first steps of a run are not counted: they
allocate, compile and read. Before that, every engine trains on the same few rows as one step: the
tokens, the trained tokens and the loss must be the same, or they do not do the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from engines import HERE, WARMUP, Done, Engine, Job, Step, run
from environments import ENVIRONMENTS

MATERIAL: Final = ENVIRONMENTS.parent / "material"
SAME_LOSS: Final = 0.005
"""By which losses may differ: bf16 keeps 8 bits, and the tools round at different places."""
COLUMNS: Final = (
    *("case", "engine", "tokens/s (rounds)", "ours is ×", "trained tokens/s"),
    *("share of peak", "peak memory, GB", "loss on the same rows"),
)


@dataclass(frozen=True)
class Case:
    """Engines that are compared on one job; the first is ours."""

    name: str
    job: Job
    engines: Sequence[Engine]
    steps: int
    """Steps that are counted, behind those of the warm-up, of every engine."""
    compared: int = 1
    """The step on the same rows whose losses are compared; 0 compares none."""

    def same_rows(self) -> dict[str, Step | str]:
        """The step of each engine that is compared, or what went wrong instead."""
        done: dict[str, Step | str] = {}
        job = replace(self.job, kind=f"{self.job.kind}-first", steps=self.compared)
        for engine in self.engines if self.compared else ():
            if engine.environment:  # the same engine again
                continue
            one = run(engine, job)
            done[engine.name] = one.failure or one.steps[-1]
            say(f"{self.name}, same rows, {engine.title}: {done[engine.name]}")
        return done

    def round(self) -> dict[str, Done]:
        """Every engine once."""
        done = {}
        for engine in self.engines:
            one = run(engine, replace(self.job, steps=WARMUP + self.steps))
            done[engine.name] = one
            speed = one.failure or f"{rate(one):,.0f} tokens/s"
            say(f"{self.name}, {engine.title}: {speed}, {one.seconds:.0f} s, load {one.load:.1f}")
        return done


def rate(done: Done) -> float:
    """Tokens a second, those of padding and the first steps not counted."""
    steps = done.steps[WARMUP:]
    return sum(step.tokens for step in steps) / sum(step.seconds for step in steps)


def measure(case: Case, rounds: int, peak: float) -> dict[str, Any]:
    """A case as figures."""
    same = case.same_rows()
    done = [case.round() for _ in range(rounds)]
    engines = {
        engine.name: _figures(case, engine, [one[engine.name] for one in done], peak)
        for engine in case.engines
    }
    return {"case": case.name, **_same(same), "engines": engines, **_against(engines)}


def _same(done: Mapping[str, Step | str]) -> dict[str, Any]:
    """Whether the step on the same rows is the same in all engines, two at least, that made it."""
    steps = {name: step for name, step in done.items() if isinstance(step, Step)}
    losses = [step.loss for step in steps.values()]
    spread = max(losses) - min(losses) if losses else None
    counts = {(step.tokens, step.trained) for step in steps.values()}
    same = len(steps) > 1 and spread is not None and spread <= SAME_LOSS and len(counts) == 1
    return {
        "same_work": same if done else None,
        "loss_spread": spread,
        "same_rows": {
            name: asdict(step) if isinstance(step, Step) else {"failed": step}
            for name, step in done.items()
        },
    }


def _figures(case: Case, engine: Engine, rounds: Sequence[Done], peak: float) -> dict[str, Any]:
    """What the rounds of one engine say."""
    if failures := [done.failure for done in rounds if done.failure]:
        return {"title": engine.title, "failed": failures[-1]}
    speeds = [rate(done) for done in rounds]
    speed = statistics.median(speeds)
    counted = [step for done in rounds for step in done.steps[WARMUP:]]
    tokens = sum(step.tokens for step in counted)
    trained = sum(step.trained for step in counted) / tokens
    return {
        "title": engine.title,
        "version": rounds[-1].version,
        "tokens_per_second": round(speed, 1),
        "rounds": [round(one, 1) for one in speeds],
        "trained_per_second": round(speed * trained, 1),
        "step_tokens": round(tokens / len(counted)),
        "share_of_peak": round(speed * flops_per_token(case.job, trained) / peak, 4),
        "peak_gb": round(max(done.peak for done in rounds) / 1e9, 2),
        "first_step_seconds": round(rounds[-1].steps[0].seconds, 2),
        "command_seconds": round(statistics.median(done.seconds for done in rounds), 1),
        "load": round(max(done.load for done in rounds), 1),
    }


def _against(engines: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Our speed and our memory as multiples of those of each other engine."""
    ours, *others = engines.values()
    names = list(engines)[1:]

    def ratio(key: str, other: dict[str, Any]) -> float | None:
        return round(ours[key] / other[key], 3) if key in ours and key in other else None

    return {
        "vs": {n: ratio("tokens_per_second", o) for n, o in zip(names, others, strict=True)},
        "memory_vs": {n: ratio("peak_gb", o) for n, o in zip(names, others, strict=True)},
    }


def flops_per_token(job: Job, trained: float) -> float:
    """Floating-point operations a token of training, `trained` of the tokens carrying loss.

    Those of `tongwen.models.flops`; with frozen weights, the third of the matrix products that
    would make their gradients falls away.
    """
    config = json.loads((job.model / "config.json").read_text(encoding="utf-8"))
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"] + config["num_key_value_heads"]
    attention = 2 * heads * config["head_dim"] * hidden
    body = layers * (attention + 3 * hidden * config["intermediate_size"])
    head = config["vocab_size"] * hidden * trained
    items = json.loads((job.data / "tokens.json").read_text(encoding="utf-8"))
    lengths = [len(item["ids"]) for item in items]
    seen = sum(length * length for length in lengths) / sum(lengths)
    passes = 6 if job.method == "full" else 4
    return float(passes * (body + head) + 6 * layers * hidden * seen)


def matrix_peak(threads: int, precision: str) -> float:
    """Floating-point operations a second of large matrix products on this machine."""
    program = (
        "import sys; from tongwen.models.machine import *; prepare_machine(int(sys.argv[1])); "
        "print(matrix_peak(compute_dtype(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(threads), precision]
    said = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(3)]
    return max(float(one.stdout) for one in said)


def summary(name: str, cases: Sequence[dict[str, Any]], machine: dict[str, Any]) -> dict[str, Any]:
    """All cases, and above them the lowest ratio to each engine and the highest of the memory."""

    def worst(key: str, other: str, of: Callable[[list[float]], float]) -> float | None:
        ratios = [case[key][other] for case in cases]
        return None if None in ratios else of(ratios)

    others = list(cases[0]["vs"])
    return {
        "benchmark": name,
        **{f"vs_{other}": worst("vs", other, min) for other in others},
        **{f"memory_vs_{other}": worst("memory_vs", other, max) for other in others},
        "same_work": all(case["same_work"] is not False for case in cases),
        "loss_spread": max(case["loss_spread"] or 0.0 for case in cases),
        "machine": machine,
        "cases": list(cases),
    }


def table(result: dict[str, Any]) -> str:
    """A result as Markdown."""
    machine = result["machine"]
    about = (
        f"{machine['processor']}, {machine['threads']} threads, matrix peak "
        f"{machine['peak_gflops']:,.0f} GFLOP/s in {machine['precision']}."
    )
    lines = [about, "", f"| {' | '.join(COLUMNS)} |", "|---|---" + "|---:" * 6 + "|"]
    for case in result["cases"]:
        for name, figures in case["engines"].items():
            cells = [case["case"], figures["title"], *_cells(case, name, figures)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(case: dict[str, Any], name: str, figures: dict[str, Any]) -> list[str]:
    if "failed" in figures:
        return ["failed", *[""] * 5]
    rounds = ", ".join(f"{speed:,.0f}" for speed in figures["rounds"])
    ratio = case["vs"].get(name)
    loss = case["same_rows"].get(name, {}).get("loss")
    return [
        f"{figures['tokens_per_second']:,.0f} ({rounds})",
        f"{ratio:.2f}" if ratio else "",
        f"{figures['trained_per_second']:,.0f}",
        f"{figures['share_of_peak']:.0%}",
        f"{figures['peak_gb']:.1f}",
        f"{loss:.4f}" if loss else "",
    ]


def arguments_of(doc: str | None, names: Sequence[str]) -> argparse.Namespace:
    """The arguments that all training benchmarks have; `names` are their cases."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the raw rows (see material.py)")
    parser.add_argument("--material", type=Path, default=MATERIAL, help="what is made of them")
    parser.add_argument("--envs", type=Path, default=ENVIRONMENTS, help="where the peers are")
    parser.add_argument("--cases", nargs="+", choices=names, default=list(names))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="steps that are counted")
    parser.add_argument("--quick", action="store_true", help="one round of two steps")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--docs", type=Path, help="Markdown file whose table is written anew")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.steps = 1, 2
    return arguments


def job_of(arguments: argparse.Namespace, size: str, kind: str, method: str = "full") -> Job:
    """What is asked of all engines of a case."""
    return Job(
        size, kind, arguments.material, arguments.threads, method, precision=arguments.precision
    )


def main(
    name: str,
    arguments: argparse.Namespace,
    cases: Sequence[Case],
    more: Callable[[dict[str, Any], argparse.Namespace], dict[str, Any]] = lambda result, _: result,
) -> None:
    """Make what is missing, measure the cases, add `more` to the result, say what came out."""
    make_material(arguments.data, arguments.material, {case.job.size for case in cases})
    peak = matrix_peak(arguments.threads, arguments.precision)
    machine = {
        "processor": _processor(),
        "threads": arguments.threads,
        "precision": arguments.precision,
        "peak_gflops": round(peak / 1e9, 1),
        "python": platform.python_version(),
    }
    measured = [measure(case, arguments.rounds, peak) for case in cases]
    result = more(summary(name, measured, machine), arguments)
    print(table(result))
    if arguments.docs:
        write_block(arguments.docs, name, table(result))
    if arguments.json:
        print(json.dumps(result))


def make_material(data: Path | None, material: Path, sizes: set[str]) -> None:
    """Rows, tokenizers and models, if they are not there yet."""
    if missing := sorted(size for size in sizes if not (material / size).exists()):
        if data is None:
            raise SystemExit(f"{material} has nothing for {', '.join(missing)}: give --data")
        command = [sys.executable, str(HERE / "material.py"), "--data", str(data)]
        command += ["--out", str(material), "--sizes", *missing]
        subprocess.run(command, check=True, stdout=sys.stderr)


def write_block(file: Path, name: str, text: str) -> None:
    """Put a table between its marks in a Markdown file."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = file.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    assert rest, f"{file} has no line {begin}"
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def say(message: str) -> None:
    """Tell what goes on, apart from the result."""
    print(message, file=sys.stderr, flush=True)


def _processor() -> str:
    if shutil.which("lscpu"):
        said = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        for line in said.splitlines():
            if line.startswith("Model name:"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
