"""`report.html`: the curves of a run, in one file that needs nothing else."""

from __future__ import annotations

import html
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tongwen.files import write_whole
from tongwen.train.run import read_metrics

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 240, 56, 28, 12
POINTS = 400
COLOURS = ("#2457c5", "#c2410c", "#0f766e", "#7c3aed", "#64748b")
STYLE = """
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; max-width: 1360px;
  margin: 2rem auto;
  padding: 0 1rem; color: #1e293b; background: #fff }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 1.5rem }
figure { margin: 0 } figcaption { font-weight: 600; margin-bottom: .25rem }
svg { width: 100%; height: auto; background: #f8fafc; border-radius: 6px }
text { font: 11px system-ui, sans-serif; fill: #64748b }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left;
  vertical-align: top } pre { white-space: pre-wrap; margin: 0 }
@media (prefers-color-scheme: dark) { body { background: #0f172a; color: #e2e8f0 }
  svg { background: #1e293b } }
"""

Points = Sequence[tuple[float, float]]


def write_report(run_folder: Path, passport: Mapping[str, Any]) -> Path:
    """Write the report of a run from its metrics, settings and passport; returns its path."""
    metrics = read_metrics(run_folder / "metrics.jsonl")
    settings = tomllib.loads((run_folder / "config.toml").read_text(encoding="utf-8"))
    figures = [
        _figure("Training loss (nats per trained token)", {"loss": _curve(metrics, "loss")}),
        _figure(
            "Held-out bits per byte",
            {
                key.removeprefix("bits_per_byte_"): _curve(metrics, key)
                for key in sorted({k for r in metrics for k in r if k.startswith("bits_per_byte_")})
            },
        ),
        *_judgement_figures(metrics),
        _figure("Learning rate", {"lr": _curve(metrics, "lr")}),
        _figure("Gradient norm", {"grad_norm": _curve(metrics, "grad_norm")}),
        _figure("Tokens per second", {"tok/s": _curve(metrics, "tokens_per_second")}),
        _figure("Share of the matrix peak (MFU)", {"MFU": _curve(metrics, "mfu")}),
    ]
    samples = [record for record in reversed(metrics) if "sample" in record]
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>Tongwen: {html.escape(run_folder.name)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(str(run_folder))}</h1><main>{''.join(figures)}</main>"
        f"<h2>Samples, newest first</h2>{_samples(samples)}"
        f"{_forecast(passport)}<h2>Settings</h2>{_table(settings)}</html>\n"
    )
    path = run_folder / "report.html"
    write_whole(path, page)
    return path


def _judgement_figures(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """What is recorded where answers are judged: of each figure, training and held-out data."""
    titles = {
        "accuracy": "Share of judgements that the model agrees with",
        "margin": "Margin of rewards",
        "reward": "Reward",
        "differing": "Share of answers in groups whose rewards differ",
        "answer_tokens": "Tokens of an answer",
        "kl": "KL divergence from the reference (nats)",
    }
    both = [
        _figure(
            title,
            {"training": _curve(metrics, key), "held-out": _curve(metrics, f"held_out_{key}")},
        )
        for key, title in titles.items()
    ]
    sides = [
        _figure(title, {name: _curve(metrics, f"{key}_{name}") for name in ("chosen", "rejected")})
        for key, title in (("reward", "Rewards"), ("logp", "Log-probability of answers (nats)"))
    ]
    if any("accuracy" in record or "reward" in record for record in metrics):
        both.insert(0, _figure("Held-out loss", {"loss": _curve(metrics, "held_out_loss")}))
    return both + sides


def _curve(metrics: Sequence[dict[str, Any]], key: str) -> Points:
    return [(record["step"], record[key]) for record in metrics if key in record]


def _thin(points: Points) -> Points:
    """At most POINTS points, each the mean of its neighbours."""
    size = max(1, -(-len(points) // POINTS))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups]


def _figure(title: str, curves: dict[str, Points]) -> str:
    curves = {name: _thin(points) for name, points in curves.items() if points}
    if not curves:
        return ""
    every = [point for points in curves.values() for point in points]
    last = max(x for x, _ in every) or 1
    low, high = min(y for _, y in every), max(y for _, y in every)
    span = (high - low) or abs(high) or 1.0

    def place(x: float, y: float) -> str:
        right = LEFT + x / last * (WIDTH - LEFT - 12)
        down = TOP + (high - y) / span * (HEIGHT - TOP - BOTTOM)
        return f"{right:.1f},{down:.1f}"

    parts = []
    for share in (0, 0.5, 1):
        y = high - share * span
        down = TOP + share * (HEIGHT - TOP - BOTTOM)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{down}" y2="{down}" stroke="#cbd5e1"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{down + 4}" text-anchor="end">{_number(y)}</text>')
    for x, anchor in ((0, "start"), (last / 2, "middle"), (last, "end")):
        right = LEFT + x / last * (WIDTH - LEFT - 12)
        parts.append(f'<text x="{right}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:,.0f}</text>')
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in points)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
        if len(curves) > 1:
            parts.append(
                f'<text x="{WIDTH - 16}" y="{TOP + 14 * (number + 1)}" text-anchor="end" '
                f'style="fill:{colour};font-weight:600">{html.escape(name)}</text>'
            )
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg></figure>'
    )


def _number(value: float) -> str:
    """A label of an axis, as short as it can be told apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _samples(samples: Sequence[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{record['step']:,}<td><pre>{html.escape(record['prompt'])}</pre>"
        f"<td><pre>{html.escape(record['sample'])}</pre>"
        for record in samples
    )
    return f"<table><tr><th>step<th>prompt<th>sample{rows}</table>" if samples else "<p>none</p>"


def _forecast(passport: Mapping[str, Any]) -> str:
    """What the run was thought to take, beside what it took."""
    said, result = passport["forecast"], passport["result"]
    if said is None:
        return ""
    machine = passport["machine"]
    on_card = machine["peak_card_of_process_bytes"]
    memory = said["peak_bytes"], on_card or machine["peak_rss_of_process_bytes"]
    step = said["seconds_per_step"], result["seconds"] / result["step"]
    rate = said["tokens_per_second"], result["tokens_per_second"]
    rows = "".join(
        f"<tr><td>{name}<td>{_number(forecast)}<td>{_number(measured)}"
        for name, forecast, measured in (
            ("Memory of a process (GiB)", *(size / 2**30 for size in memory)),
            ("Seconds of a step", *step),
            ("Tokens per second", *rate),
        )
    )
    return f"<h2>Forecast</h2><table><tr><th><th>forecast<th>measured{rows}</table>"


def _table(settings: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(key)}<td>{html.escape(str(value))}"
        for key, value in settings.items()
    )
    return f"<table>{rows}</table>"
