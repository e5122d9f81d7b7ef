"""Forty malformed files through Tongwen, LLaMA-Factory and TRL: what comes out, and what is said.

    python benchmarks/malformed.py --llamafactory LF/bin/python --trl TRL/bin/python > table.md

The files and what is right for each are those of tests/data/malformed. The peers are no
dependencies and do not fit into one environment; each is given by the interpreter of its own:

    python -m venv LF;  LF/bin/pip install llamafactory==0.9.5
    python -m venv TRL; TRL/bin/pip install trl==1.16.0 torch==2.13.0

Each peer gets every file in a process of its own, offline, with an empty cache and a time limit,
and the declaration that its documentation asks for (see peers/malformed_*.py). It is then asked for
the text of each row that it would train on, and for what of it carries loss. A sound row is kept if
its answer comes out whole, and the question with it. First, as a control, the sound rows of each
layout go through alone, and all must come out.

A peer may lose or take a row loudly: it stops with an error, or it prints the row. What is counted
as silent is a sound row that is missing, a broken row that is left out, or a broken row that is
trained on, while nothing is said and the command succeeds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare, load_manifest
from tongwen.errors import DataError
from tongwen.messages import Conversation, Document, Item, Judged, Preference, parse
from tongwen.sources import Reject, iter_rows
from tongwen.tokenizer import train_tokenizer

HERE: Final = Path(__file__).parent
FOLDER: Final = HERE.parent / "tests" / "data" / "malformed"
OUTCOMES: Final = ("duplicates", "filtered", "rejected")
TIMEOUT: Final = 180
TEMPLATE: Final = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with the marks from which TRL knows the assistant's words."""
SAID: Final = (
    re.compile(r"Dropped invalid example: (\[\{.*)"),
    re.compile(r"Invalid (?:role tag|message count) in (\[.*)\.$", re.MULTILINE),
)
"""What LLaMA-Factory prints of the rows that it drops: their text."""
CONTROL: Final = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>|\s+")
FAILURE: Final = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Invalid|StopIteration))(?:: (.*))?$")
WRAPPER: Final = "DatasetGenerationError"
"""What `datasets` raises from every error; the one before it says more."""
EXPECTED: Final[dict[str, dict[str, Any]]] = tomllib.loads(
    (FOLDER / "expected.toml").read_text(encoding="utf-8")
)


@dataclass
class Outcome:
    """What one tool made of one file."""

    kept: int = 0
    """Sound rows whose answer is trained on whole."""
    broken: int = 0
    """Rows trained on that are not sound, or whose question was cut away."""
    twice: int = 0
    """Sound rows that come once more."""
    warned: int = 0
    """Messages that show a row which is left out."""
    error: str = ""
    """Why the whole file is refused."""
    silent: int = 0
    """Rows lost or taken without a word."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llamafactory", type=Path, help="interpreter with llamafactory")
    parser.add_argument("--trl", type=Path, help="interpreter with trl")
    parser.add_argument("--json", type=Path, help="write all outcomes to this file")
    parser.add_argument(
        "--recorded", type=Path, help="such a file: what it has of the peers is not measured again"
    )
    arguments = parser.parse_args()
    peers = {name: getattr(arguments, name) for name in ("llamafactory", "trl")}
    peers = {name: python.absolute() for name, python in peers.items() if python is not None}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        tokenizer = peers_tokenizer(place / "tokenizer")
        sound = {name: sound_texts(name) for name in EXPECTED}
        before = json.loads(arguments.recorded.read_text()) if arguments.recorded else {}
        versions = before.get("versions", {})
        for peer, python in peers.items():
            versions.setdefault(peer, "")
            versions[peer] = versions[peer] or control(peer, python, tokenizer, place)
        outcomes: dict[str, dict[str, Outcome]] = {}
        for name in EXPECTED:
            known = before.get("files", {}).get(name, {})
            outcomes[name] = {peer: Outcome(**known[peer]) for peer in versions if peer in known}
            outcomes[name]["tongwen"] = ours(name, place / name)
            for peer in peers.keys() - outcomes[name].keys():
                layout = EXPECTED[name]["layout"]
                found = ask(peer, peers[peer], FOLDER / name, layout, tokenizer)
                outcomes[name][peer] = judged(name, sound[name], *found)
            print(f"{name}: {outcomes[name]}", file=sys.stderr)
    print(table(outcomes, versions))
    if arguments.json:
        plain = {name: {who: asdict(o) for who, o in row.items()} for name, row in outcomes.items()}
        arguments.json.write_text(json.dumps({"versions": versions, "files": plain}, indent=1))


def turned(name: str) -> set[int]:
    """Lines of the rows that are not to be used."""
    return {row["line"] for outcome in OUTCOMES for row in EXPECTED[name].get(outcome, ())}


def sound_items(name: str) -> Iterator[Item]:
    """The rows of a file that are sound."""
    for row in iter_rows([FOLDER / name]):
        if not isinstance(row, Reject) and row.line not in turned(name):
            yield parse(row.record)


def sound_texts(name: str) -> Counter[str]:
    """What is to be learned of them."""
    return Counter(plain(learned(item)) for item in sound_items(name))


def learned(item: Item) -> str:
    """The text of a row that carries loss."""
    match item:
        case Document():
            return item.text
        case Conversation():
            return "\n".join(m.content for m in item.messages if m.role == "assistant")
        case Judged():
            return learned(item.conversation)
        case Preference():
            return "\n".join(m.content for m in (*item.chosen, *item.rejected))


def plain(text: str) -> str:
    """A text without the marks of the template and without blanks."""
    return CONTROL.sub("", text)


def peers_tokenizer(folder: Path) -> Path:
    """A model folder with nothing but a tokenizer that knows these texts."""
    texts = [learned(item) for name in EXPECTED for item in sound_items(name)]
    tokenizer = train_tokenizer(texts, 800)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def control(peer: str, python: Path, tokenizer: Path, place: Path) -> str:
    """The peer's version; all sound rows must come through it."""
    version = ""
    for layout in ("alpaca", "sharegpt", "openai", "preference", "kto"):
        files = [name for name, file in EXPECTED.items() if file["layout"] == layout]
        file = place / f"{layout}.jsonl"
        records = [record for name in files for record in sound_records(name)]
        with file.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        rows, _, version = ask(peer, python, file, layout, tokenizer)
        if rows is None or len(rows) != len(records):
            raise SystemExit(f"control: {peer} does not read sound rows in the layout {layout}")
    return version


def sound_records(name: str) -> Iterator[object]:
    """The sound rows of a file as they stand there; those that one layout cannot hold left out."""
    if EXPECTED[name].get("cut") or name in ("mixed_layouts.jsonl", "cut.jsonl.gz"):
        return
    for row in iter_rows([FOLDER / name]):
        if not isinstance(row, Reject) and row.line not in turned(name):
            record = row.record
            alpaca = EXPECTED[name]["layout"] == "alpaca" and isinstance(record, dict)
            yield {"input": "", **record} if alpaca and isinstance(record, dict) else record


def ours(name: str, out: Path) -> Outcome:
    """What `data prepare --clean basic` makes of a file, beside a sound row to train on."""
    beside = out.parent / "beside.jsonl"
    beside.write_text('{"instruction": "Say no.", "output": "No."}\n')
    config = DataPrepareConfig(
        sources=[beside, FOLDER / name], out=out, vocab_size=300, hold_out=0.0, clean=["basic"]
    )
    quiet = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        data_prepare(config)
    except DataError as error:
        return Outcome(error=str(error))
    finally:
        os.dup2(quiet, 2)
    source = load_manifest(out).sources[1]
    used, right = source.used + source.held_out, EXPECTED[name]["used"]
    named = source.duplicates + source.filtered + source.rejected
    broken = max(used - right, 0)
    return Outcome(kept=min(used, right), broken=broken, warned=named)


def ask(
    peer: str, python: Path, file: Path, layout: str, tokenizer: Path
) -> tuple[list[dict[str, str]] | None, str, str]:
    """What a peer trains on, row by row, or None where it stops; what it says; its version."""
    script = HERE / "peers" / f"malformed_{peer}.py"
    with tempfile.TemporaryDirectory() as cache:
        environment = {
            **os.environ,
            "HF_HOME": cache,
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TMPDIR": cache,
        }
        command = [str(python), str(script), str(file), layout, str(tokenizer)]
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env=environment,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return None, f"TimeoutError: after {TIMEOUT} s", ""
    said = done.stdout + done.stderr
    if done.returncode < 0:
        said += f"\nError: ended by signal {-done.returncode}"
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line.removeprefix("RESULT "))
            return result["rows"], said, result["version"]
    return None, said, ""


def judged(
    name: str, sound: Counter[str], rows: Sequence[dict[str, str]] | None, said: str, _version: str
) -> Outcome:
    """A peer's rows against the sound ones."""
    if rows is None:
        return Outcome(error=failure(said))
    come = Counter(plain(row["learned"]) for row in rows)
    kept = (come & sound).total() - unasked(name, rows)
    twice = sum(come[text] - sound[text] for text in sound if come[text] > sound[text])
    broken = len(rows) - kept - twice
    dropped, strange = (message.findall(said) for message in SAID)
    warned = len(dropped) + len(set(strange))
    missing = max(EXPECTED[name]["rows"] - len(rows), 0)
    silent = broken + max(missing - warned, 0)
    return Outcome(kept, broken, twice, warned, silent=silent)


def unasked(name: str, rows: Sequence[dict[str, str]]) -> int:
    """Rows whose answer is learned after the question that it answers was cut away."""
    cut = EXPECTED[name].get("cut")
    if cut is None:
        return 0
    answers = [row for row in rows if plain(row["learned"]) == plain(cut["answer"])]
    return sum(plain(cut["question"]) not in plain(row["seen"]) for row in answers)


def failure(said: str) -> str:
    """The error that a process ended with."""
    for line in reversed(said.splitlines()):
        match = FAILURE.match(line.strip())
        if match and match[1] != WRAPPER:
            reason = (match[2] or "").replace("|", "\\|").replace("`", "'")
            return f"{match[1]}: {reason[:90]}" if reason else match[1]
    return "no message"


def table(outcomes: dict[str, dict[str, Outcome]], versions: dict[str, str]) -> str:
    """The outcomes as Markdown."""
    lines = [
        f"| file | what is wrong | Tongwen | {' | '.join(versions.values())} |",
        f"|---|---|---|{'---|' * len(versions)}",
    ]
    for name, row in outcomes.items():
        wrong = EXPECTED[name]["wrong"].replace("|", "\\|")
        cells = [f"`{name}`", wrong, our_cell(name, row["tongwen"])]
        cells += [peer_cell(name, row[peer]) for peer in versions]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"| {len(outcomes)} files | {' | '.join(versions.values())} |"]
    lines.append(f"|---|{'---|' * len(versions)}")
    for what, numbers in totals(outcomes, list(versions)).items():
        lines.append(f"| {what} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def totals(outcomes: dict[str, dict[str, Outcome]], peers: list[str]) -> dict[str, list[int]]:
    """Each measure for each peer."""
    columns = [[(name, row[peer]) for name, row in outcomes.items()] for peer in peers]
    measures: dict[str, Callable[[str, Outcome], int]] = {
        "files of which a row is lost or taken silently": lambda _, o: o.silent > 0,
        "rows lost or taken silently": lambda _, o: o.silent,
        "broken rows trained on": lambda _, o: o.broken,
        "files refused whole": lambda _, o: bool(o.error),
        "files refused whole that hold sound rows": lambda name, o: (
            bool(o.error) and EXPECTED[name]["used"] > 0
        ),
    }
    return {
        what: [sum(measure(name, outcome) for name, outcome in column) for column in columns]
        for what, measure in measures.items()
    }


def our_cell(name: str, outcome: Outcome) -> str:
    """Our outcome in words."""
    if outcome.error:
        return f"stops: {outcome.error}"
    if outcome.kept < EXPECTED[name]["used"] or outcome.broken:
        return f"**wrong**: {outcome.kept} sound rows used, {outcome.broken} broken ones"
    parts = [f"{outcome.kept} used"]
    for kind in OUTCOMES:
        if rows := EXPECTED[name].get(kind):
            numbers = ", ".join(str(row["line"]) for row in rows)
            parts.append(f"{len(rows)} {kind} (line {numbers})")
    return "; ".join(parts + ["cut and counted"] * ("cut" in EXPECTED[name]))


def peer_cell(name: str, outcome: Outcome) -> str:
    """A peer's outcome in words."""
    if outcome.error:
        return f"stops: `{outcome.error}`"
    parts = [f"{outcome.kept} of {EXPECTED[name]['used']} sound rows"]
    if outcome.broken:
        how = "trained on without its question" if "cut" in EXPECTED[name] else "broken trained on"
        parts.append(f"**{outcome.broken} {how}**")
    if outcome.twice:
        parts.append(f"{outcome.twice} again")
    left = EXPECTED[name]["rows"] - outcome.kept - outcome.broken - outcome.twice
    if left > 0:
        shown = min(left, outcome.warned)
        parts += [f"{shown} left out, shown without its place"] * (shown > 0)
        parts += [f"**{left - shown} left out, nothing said**"] * (left > shown)
    return "; ".join(parts)


if __name__ == "__main__":
    main()
