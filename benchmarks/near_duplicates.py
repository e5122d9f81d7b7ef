"""Near duplicates: Tongwen against datasketch, on the same texts with the same answer asked for.

    python benchmarks/near_duplicates.py FILE ... [--copies 2000] [--threshold 0.7]

Files are JSON lines, JSON arrays or text. Edited copies of some of the texts are planted at the end
(characters replaced, dropped and doubled; a passage inserted; halves swapped). Each tool runs in a
process of its own, so that its processor time and its peak memory are its own.

All cut the same shingles, with 256 permutations, and compare every candidate exactly; datasketch
chooses its bands for the threshold itself. It is run twice: as its users write it, and with our
shingles given to it as hashes, so that only sketches and index are its own. Recall is counted over
the planted copies whose exact similarity to their original is at least the threshold; a finding is
false when the exact similarity of its two texts is below the threshold.

datasketch is not a dependency: `pip install datasketch`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tongwen.cleaning.minhash import shingles, similarity
from tongwen.cleaning.near import NearDuplicates
from tongwen.cleaning.scratch import U64, codes_of
from tongwen.sources import Row, iter_rows

PERMUTATIONS = 256


def texts_of(paths: list[Path]) -> Iterator[str]:
    """All that the records of files say, as one text each."""
    for row in iter_rows(paths):
        if isinstance(row, Row):
            record = row.record
            values = list(record.values()) if isinstance(record, dict) else [record]
            text = "\n".join(value for value in values if isinstance(value, str))
            if len(text) >= 20:
                yield text


def edited(text: str, rng: random.Random) -> str:
    """A near duplicate of a text."""
    kind = rng.randrange(3)
    if kind == 0:
        characters = list(text)
        for i in rng.sample(range(len(text)), max(1, round(len(text) * rng.uniform(0.005, 0.03)))):
            characters[i] = rng.choice(("", characters[i] * 2, rng.choice(text)))
        return "".join(characters)
    cut = rng.randrange(len(text))
    if kind == 1:
        return text[:cut] + text[: max(1, len(text) // 30)] + text[cut:]
    return text[cut:] + "\n" + text[:cut]


def set_of(text: str) -> U64:
    """The shingles of a text."""
    return np.unique(shingles([codes_of(text)])[0])


def run_tongwen(texts: list[str], threshold: float) -> dict[int, int]:
    """Number of each near duplicate, and of the text it is like."""
    with tempfile.TemporaryDirectory() as folder:
        near = NearDuplicates(Path(folder), threshold, PERMUTATIONS)
        for number, text in enumerate(texts):
            near.add(number, text)
        return {found.number: found.of for found in near.find()}


def run_datasketch(texts: list[str], threshold: float) -> dict[int, int]:
    """What a user of datasketch writes: sets of strings, its own hashes, sets compared."""

    def shingle_set(text: str) -> set[str]:
        folded = "".join(char for char in text.lower() if char.isalnum())
        return {folded[i : i + (2 if char >= "\u3040" else 4)] for i, char in enumerate(folded)}

    def jaccard(a: set[str], b: set[str]) -> float:
        return len(a & b) / len(a | b)

    def sketched(sketch: Any, shingle_set: set[str]) -> None:
        sketch.update_batch([shingle.encode() for shingle in shingle_set])

    return _datasketch(texts, threshold, shingle_set, sketched, jaccard)


def run_datasketch_hashed(texts: list[str], threshold: float) -> dict[int, int]:
    """datasketch, given our shingles as hashes: its share of the work alone."""

    def sketched(sketch: Any, shingle_set: U64) -> None:
        sketch.hashfunc = lambda shingle: shingle & 0xFFFFFFFF
        sketch.update_batch(shingle_set.tolist())

    return _datasketch(texts, threshold, set_of, sketched, similarity)


def _datasketch(
    texts: list[str],
    threshold: float,
    set_of: Callable[[str], Any],
    sketched: Callable[[Any, Any], None],
    similarity: Callable[[Any, Any], float],
) -> dict[int, int]:
    from datasketch import MinHash, MinHashLSH  # type: ignore[import-not-found,unused-ignore]

    # The weights ask for recall before precision, as ours are chosen; candidates are compared.
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.02, 0.98))
    found = {}
    for number, text in enumerate(texts):
        shingle_set = set_of(text)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketched(sketch, shingle_set)
        for other in sorted(index.query(sketch)):
            if similarity(shingle_set, set_of(texts[other])) >= threshold:
                found[number] = other
                break
        else:
            index.insert(number, sketch)
    return found


TOOLS = {
    "tongwen": run_tongwen,
    "datasketch": run_datasketch,
    "datasketch given our shingles": run_datasketch_hashed,
}


def measure(tool: str, path: Path, threshold: float) -> None:
    """Run one tool over the texts of a file, and print what it found as JSON."""
    texts = json.loads(path.read_text(encoding="utf-8"))
    run = TOOLS[tool]
    run(texts[:50], threshold)
    start = time.process_time()
    found = run(texts, threshold)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "found": list(found.items())}))


def compare(options: argparse.Namespace) -> None:
    """Plant, run both, and print the table."""
    rng = random.Random(0)
    texts = list(texts_of(options.files))
    originals = rng.sample(range(len(texts)), min(options.copies, len(texts)))
    first_copy = len(texts)
    texts += [edited(texts[i], rng) for i in originals]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    planted = {
        first_copy + k
        for k, i in enumerate(originals)
        if similarity(set_of(texts[i]), set_of(texts[first_copy + k])) >= options.threshold
    }
    print(
        f"{len(texts)} texts, {megabytes:.1f} MB, {len(originals)} planted copies, "
        f"{len(planted)} of them at {options.threshold} or above"
    )
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        for tool in TOOLS:
            words = [__file__, "--measure", tool, "--threshold", str(options.threshold), str(path)]
            done = subprocess.run(
                [sys.executable, *words], check=True, capture_output=True, text=True
            )
            result = json.loads(done.stdout)
            found = dict(result["found"])
            false = sum(
                similarity(set_of(texts[a]), set_of(texts[b])) < options.threshold
                for a, b in found.items()
            )
            rates[tool] = megabytes / result["seconds"]
            recall = len(planted & set(found)) / len(planted)
            print(
                f"{tool:30}{rates[tool]:7.2f} MB/s  recall {recall:.4f}  found {len(found)}"
                f"  false {false}  peak {result['peak']:.0f} MiB"
            )
    for tool in list(TOOLS)[1:]:
        print(f"ratio to {tool}: {rates['tongwen'] / rates[tool]:.1f}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--copies", type=int, default=2000)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--measure")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.files[0], arguments.threshold)
    else:
        compare(arguments)
