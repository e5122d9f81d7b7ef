"""What `data prepare` says on stderr while it works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from tongwen.data.account import REJECTS, Reason
from tongwen.data.manifest import Balance, Contamination, Counts, Manifest, SourceCounts, SourceFile
from tongwen.files import spelled
from tongwen.progress import counted
from tongwen.sources import Expanded

SHOWN: Final = 5


class Talk:
    """One line for each thing that happened."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(line, style=style, markup=False)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """A spinner, where the terminal can show one."""
        with self._console.status(what.replace("[", r"\[")):
            yield

    def reused(self, out: Path) -> None:
        """Nothing to do."""
        self._say(f"{out} is up to date: same sources, same settings")

    def begin(self, expanded: Expanded, files: Sequence[SourceFile], out: Path) -> None:
        """What is going to be read, and what is not."""
        total = sum(file.bytes for file in files)
        self._say(f"preparing {counted(len(files), 'file')}, {_megabytes(total)}, into {out}")
        if expanded.ignored:
            names = ", ".join(spelled(path.name) for path in expanded.ignored[:SHOWN])
            more = ", …" if len(expanded.ignored) > SHOWN else ""
            number = len(expanded.ignored)
            self._say(
                f"left out: {counted(number, 'file')} that {'holds' if number == 1 else 'hold'} no "
                f"data ({names}{more})",
                style="yellow",
            )

    def tokenizer(self, size: int, wanted: int, sample: int) -> None:
        """A tokenizer was trained."""
        short = "" if size == wanted else f" (of {wanted:,}; the text holds no more)"
        self._say(
            f"tokenizer: {size:,} tokens{short}, trained on {_megabytes(sample)} of these rows"
        )

    def left_out(self, rows: int, rejected: int) -> None:
        """Rows that had no part in training a tokenizer."""
        if rejected:
            self._say(
                f"{rejected:,} of {counted(rows, 'row')} cannot be used and had no part in it; "
                "`tongwen data prepare` lists them with their reasons",
                style="yellow",
            )

    def source(self, source: SourceCounts) -> None:
        """What became of the rows of one file."""
        if source.note:
            self._say(f"{source.path}: {source.note}", style="yellow")
        if source.rows_in == 0:
            self._say(f"{source.path}: no rows, the file is empty", style="yellow")
            return
        kinds = [source.form]
        kinds += [layout for layout in source.layouts if layout != source.form]
        if source.encoding:
            kinds.append(source.encoding)
        parts = {name.replace("_", " "): count for name, count in source.outcomes().items()}
        outcome = ", ".join(f"{count:,} {name}" for name, count in parts.items() if count)
        lost = source.rows_in - source.used - source.held_out
        self._say(
            f"{source.path}: {', '.join(kinds)}: {counted(source.rows_in, 'row')} → {outcome}",
            style="yellow" if lost else "",
        )

    def reasons(self, reasons: Mapping[str, Reason]) -> None:
        """The most frequent reasons of rejects, each with its first place."""
        ranked = sorted(reasons.items(), key=lambda item: -item[1].count)
        for kind, reason in ranked[:SHOWN]:
            self._say(
                f"  {reason.outcome} {reason.count:,} × {kind} (first: {reason.first})",
                style="yellow",
            )
        if len(ranked) > SHOWN:
            rest = sum(reason.count for _, reason in ranked[SHOWN:])
            self._say(
                f"  {rest:,} × {counted(len(ranked) - SHOWN, 'other reason')}", style="yellow"
            )

    def balance(self, balance: Balance, rejects: Path) -> None:
        """What became of all rows."""
        self._say(str(balance))
        if balance.rows_in > balance.used + balance.held_out:
            self._say(f"rows that are not used, each with its reason: {rejects}", style="yellow")

    def benchmarks(self, benchmarks: Sequence[Contamination]) -> None:
        """What was found of the benchmarks that were looked for."""
        for one in benchmarks:
            self._say(
                f"benchmark {one.name}: {one.found:,} of {one.items:,} questions found, in "
                f"{counted(one.rows, 'row')}, which are left out",
                style="yellow" if one.found else "",
            )

    def notes(self, notes: Mapping[str, int], cut_characters: int) -> None:
        """What was mended or noticed in rows."""
        if cut_characters:
            self._say(f"cut for standing in earlier rows: {counted(cut_characters, 'character')}")
        for note, rows in sorted(notes.items()):
            self._say(f"noted: {note}, in {counted(rows, 'row')}")

    def report(self, report: Path) -> None:
        """Where there is something to look at."""
        self._say(f"report: {report}")

    def end(self, manifest: Manifest, out: Path) -> None:
        """The balance, and what there is to train on."""
        self.balance(manifest.balance, out / REJECTS)
        self.benchmarks(manifest.benchmarks)
        self.notes(manifest.notes, manifest.cut_characters)
        if manifest.cut_tokens:
            self._say(
                f"left out for the length: {manifest.cut_tokens:,} tokens of rows in use",
                style="yellow",
            )
        for name, split in manifest.splits.items():
            if split.tokens:
                self._say(
                    f"{name}: {counted(split.items, 'item')}, {split.tokens:,} tokens, "
                    f"{split.trained_tokens:,} of them trained; {_shares(split.languages)}"
                )
        if not manifest.balance.held_out and manifest.settings["hold_out"]:
            self._say(
                "nothing is held out: with so few rows the loss on unseen text cannot be measured; "
                "raise --hold-out or give more rows",
                style="yellow",
            )


def _shares(languages: Mapping[str, Counts]) -> str:
    total = sum(counts.bytes for counts in languages.values())
    ranked = sorted(languages.items(), key=lambda item: -item[1].bytes)
    return ", ".join(f"{name} {counts.bytes / max(total, 1):.0%}" for name, counts in ranked)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"
