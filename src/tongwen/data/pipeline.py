"""Files through the rules, past their duplicates, into the books.

    read ─ sift ─ make ─ seen before? ─ used or held out
             └──────────────┴────────── duplicates, filtered, rejected → rejects.jsonl

Near duplicates and repeated passages are known only when every row was seen: they are looked for
in a reading of their own, before the one that makes the product. Both readings sift alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeVar

from pydantic import JsonValue

from tongwen.cleaning.benchmark_files import benchmark_files
from tongwen.cleaning.benchmarks import load_benchmarks
from tongwen.cleaning.exact import Seen
from tongwen.cleaning.survey import Survey, Verdicts, two_passes
from tongwen.config import SiftConfig
from tongwen.data.account import Account
from tongwen.data.flow import Done, Reading, flow, workers_for
from tongwen.data.manifest import SourceFile, fingerprint
from tongwen.data.talk import Talk
from tongwen.data.work import Fingerprints, Make, Sifting, Sound, Task, Turned, Worker
from tongwen.errors import ConfigError, DataError
from tongwen.messages import load_entry, load_mapping

RUNNING = {"sources", "out", "workers", "engine"}
"""Settings that say where and how fast, not what."""
SCRATCH: Final = "scratch"
"""Folder of what the search for near duplicates puts on disk; gone when the search is done."""


class Pipeline(ExitStack):
    """The sources of one command, with their books in `folder`."""

    def __init__(
        self,
        config: SiftConfig,
        files: Sequence[SourceFile],
        folder: Path,
        talk: Talk,
        seed: int = 0,
        hold_out: float = 0.0,
    ) -> None:
        super().__init__()
        self._config = config
        self._files = files
        self._talk = talk
        self._scratch = folder / SCRATCH
        self._workers = workers_for(config.workers, sum(file.bytes for file in files))
        self._first = [0]
        """Numbers of the first rows of the files, known after the first of two passes."""
        benchmarks = load_benchmarks(config.decontaminate) if config.decontaminate else None
        mapping = load_mapping(config.mapping) if config.mapping else None
        self.sifting = Sifting(config, mapping, benchmarks, seed=seed, hold_out=hold_out)
        self.account = self.enter_context(Account(folder, files, benchmarks))

    def sounds(self, make: Make) -> Iterator[Sound]:
        """The rows to use, in order, each with what `make` made of it; the others are entered."""
        with ExitStack() as stack:
            verdicts = None
            if two_passes(self._config):
                survey = stack.enter_context(Survey(self._config, self._scratch))
                verdicts = self._surveyed(survey, make)
            seen = Seen() if self._config.duplicates != "keep" else None
            for done in self._flow(make, verdicts):
                for outcome in done.outcomes:
                    settled = self._settled(outcome, seen)
                    if isinstance(settled, Turned):
                        self.account.turn_away(settled)
                    else:
                        self.account.use(settled)
                        yield settled
                if done.last:
                    self._talk.source(self.account.close_source(done.opened))

    def _settled(self, outcome: Sound | Turned, seen: Seen | None) -> Sound | Turned:
        """The outcome of the next row, now that those before it are known."""
        earlier = None
        if isinstance(outcome, Turned):
            earlier = outcome.same_as
        elif seen is not None:
            earlier = seen.add(outcome.key, self.account.rows)
        if earlier is None:
            return outcome
        return outcome.repeats(self.account.place(earlier))

    def _surveyed(self, survey: Survey, make: Make) -> Verdicts:
        """What to drop and to cut, once all rows have been seen."""
        number = 0
        with self._talk.waiting("looking for duplicates"):
            for done in self._flow(Fingerprints(self._config, make)):
                for outcome in done.outcomes:
                    if isinstance(outcome, Sound):
                        survey.add(number, outcome.product.value)
                    number += 1
                if done.last:
                    self._first.append(number)
            return survey.verdicts()

    def _flow(self, make: Make, verdicts: Verdicts | None = None) -> Iterator[Done[Sound | Turned]]:
        task = Task(self.sifting, make)
        readings = self._readings(verdicts)
        return flow(readings, Worker, task, self._workers, self._config.engine)

    def _readings(self, verdicts: Verdicts | None) -> Iterator[Reading]:
        for place, file in enumerate(self._files):
            path, text_rows = Path(file.path), self._config.text_rows
            if verdicts is None:
                yield Reading(place, path, text_rows)
            else:
                first, end = self._first[place : place + 2]
                yield Reading(place, path, text_rows, first, verdicts.among(first, end))


C = TypeVar("C", bound=SiftConfig)


def located(config: C) -> C:
    """The settings with the files and the mapping that `dataset_info.json#NAME` stands for."""
    named = [str(source) for source in config.sources if _is_entry(str(source))]
    if not named:
        return config
    if len(config.sources) > 1 or config.mapping is not None:
        raise ConfigError(
            f"{named[0]} brings its own mapping and stands beside other sources or --mapping",
            "prepare it alone; `tongwen data merge` joins prepared folders",
        )
    file, _, name = named[0].partition("#")
    source = load_entry(Path(file), name).source()
    return config.model_copy(update={"sources": [source], "mapping": named[0]})


def _is_entry(source: str) -> bool:
    file, mark, _ = source.partition("#")
    return bool(mark) and not Path(source).exists() and Path(file).is_file()


def settings_of(config: SiftConfig, *without: str) -> dict[str, JsonValue]:
    """What decides the product besides the sources; files by their content, not by their place."""
    settings = config.model_dump(mode="json", exclude={*RUNNING, *without})
    for name in settings:
        value = getattr(config, name)
        if name == "mapping" and value is not None:
            file, mark, entry = value.partition("#")
            settings[name] = f"{_content(Path(file))}{mark}{entry}"
        elif isinstance(value, Path):
            settings[name] = _content(value)
        elif isinstance(value, list) and any(isinstance(one, Path) for one in value):
            settings[name] = [_content(path) for path in value]
    return settings


def check_place(out: Path, sources: Sequence[str | Path]) -> None:
    """Refuse an output folder that the same command would read as data the next time."""
    for source in map(Path, sources):
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"--out {out} lies inside the source {source} and would be read as data",
                "choose a folder outside of the sources",
            )


def _content(path: Path) -> str:
    files = benchmark_files(path)[1] if path.is_dir() else [path]
    return " ".join([path.name, *(fingerprint(file).sha256 for file in files)])
