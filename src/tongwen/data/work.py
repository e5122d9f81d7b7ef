"""What is done with one row without regard to the others: understand it, clean it, encode it.

Everything here follows from the row and the task, so it may run in any process and in any order.
What looks at several rows together, and what writes, is in `pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from tongwen.cleaning.benchmarks import Benchmarks, Match
from tongwen.cleaning.cleaner import Cleaner
from tongwen.cleaning.exact import item_key
from tongwen.cleaning.findings import Finding
from tongwen.cleaning.repeats import cut
from tongwen.cleaning.statistics import Measures, measure
from tongwen.cleaning.survey import Cut, Duplicate, fingerprints
from tongwen.config import CleaningConfig, DuplicatesConfig
from tongwen.data.flow import Batch
from tongwen.data.shards import Split
from tongwen.data.split import split_of
from tongwen.errors import DataError
from tongwen.messages import Document, Item, Mapping, encode_texts, parse_noted, texts_of
from tongwen.sources import Reject, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Outcome = Literal["duplicates", "filtered", "rejected"]


@dataclass(frozen=True)
class Product:
    """What was made of an item, and what there is to count of it."""

    value: Any
    measures: Measures | None = None
    tokens: int | None = None
    notes: tuple[str, ...] = ()


Made = Callable[[Sequence[Item]], Sequence[Product | DataError]]
"""Makes something of each item, or says why it cannot."""


class Make(Protocol):
    """What is to be made of sound rows; sent to every process, which begins it there."""

    def begin(self) -> Made: ...


@dataclass(frozen=True)
class Sifting:
    """What decides whether a row is sound, and on which side of the split it falls."""

    cleaning: CleaningConfig
    mapping: Mapping | None = None
    benchmarks: Benchmarks | None = None
    seed: int = 0
    hold_out: float = 0.0


@dataclass(frozen=True)
class Task:
    """All that a worker needs to know."""

    sifting: Sifting
    make: Make


@dataclass(frozen=True)
class Turned:
    """A row that is not used."""

    outcome: Outcome
    reject: Reject
    kind: str | None = None
    """What such rows have in common, where the reason says more than that."""
    findings: tuple[Finding, ...] = ()
    matches: tuple[Match, ...] = ()
    """The benchmark questions that the row holds."""
    same_as: int | None = None
    """Number of the earlier row that says the same."""

    def repeats(self, place: str) -> Turned:
        """This row, with the earlier one named."""
        reject = replace(self.reject, reason=f"{self.reject.reason} {place}")
        return replace(self, reject=reject)


NOTHING: Final = Product(None)


@dataclass(frozen=True)
class Sound:
    """A row to use: what the books need of it, and what was made of it.

    The row itself is not here, as it would have to come back from where the work is done.
    """

    file: Path
    line: int
    layout: str
    split: Split
    key: bytes
    """Equal for rows that say the same."""
    notes: tuple[str, ...]
    """What was left out of the row when it was understood."""
    findings: tuple[Finding, ...]
    cut: int = 0
    """Characters of passages that stand in earlier rows, and were cut."""
    product: Product = NOTHING

    def repeats(self, place: str) -> Turned:
        """This row, turned away for what an earlier one says."""
        row = Row(self.file, self.line, None)
        return replace(_same(row, 1.0), findings=self.findings).repeats(place)


class Worker:
    """Sifts the rows of a batch and makes something of the sound ones."""

    def __init__(self, task: Task) -> None:
        self._sifting = task.sifting
        self._cleaner = Cleaner(task.sifting.cleaning)
        self._made = task.make.begin()

    def __call__(self, batch: Batch) -> list[Sound | Turned]:
        sifted = [
            self._sift(row, batch.verdicts.get(number))
            for number, row in enumerate(batch.rows, batch.first)
        ]
        products = iter(self._made([one[1] for one in sifted if not isinstance(one, Turned)]))
        return [one if isinstance(one, Turned) else _with(one[0], next(products)) for one in sifted]

    def _sift(
        self, row: Row | Reject, verdict: Duplicate | Cut | None
    ) -> tuple[Sound, Item] | Turned:
        if isinstance(row, Reject):
            return Turned("rejected", row)
        if isinstance(verdict, Duplicate):
            return replace(_same(row, verdict.similarity), same_as=verdict.of)
        try:
            parsed = parse_noted(row.record, self._sifting.mapping)
        except DataError as error:
            return Turned("rejected", row.reject(error))
        cleaned = self._cleaner(parsed.item)
        if cleaned.item is None:
            return _filtered(row, cleaned.findings)
        item = cleaned.item
        if matches := self._contained(item):
            return _contaminated(row, cleaned.findings, matches)
        repeated = 0
        if isinstance(verdict, Cut) and isinstance(item, Document):
            whole, item = item, Document(cut(item.text, verdict.spans))
            repeated = len(whole.text) - len(item.text)
            if not item.text.strip():
                return replace(_nothing_left(row), findings=cleaned.findings)
        split = split_of(item, self._sifting.seed, self._sifting.hold_out)
        key = item_key(item)
        notes, findings = parsed.notes, cleaned.findings
        return Sound(row.file, row.line, parsed.layout, split, key, notes, findings, repeated), item

    def _contained(self, item: Item) -> tuple[Match, ...]:
        """The benchmark questions in an item, none of them twice."""
        if self._sifting.benchmarks is None:
            return ()
        found = [match for text in texts_of(item) for match in self._sifting.benchmarks.find(text)]
        return tuple({(match.benchmark, match.item): match for match in found}.values())


@dataclass(frozen=True)
class Items:
    """The items themselves."""

    def begin(self) -> Made:
        return lambda items: [Product(item) for item in items]


@dataclass(frozen=True)
class Fingerprints:
    """What the search for duplicates needs of each item that can be made.

    A row that is rejected when it is made must not be the reason why another is left out.
    """

    config: DuplicatesConfig
    make: Make

    def begin(self) -> Made:
        made = self.make.begin()

        def both(items: Sequence[Item]) -> list[Product | DataError]:
            pairs = zip(made(items), fingerprints(items, self.config), strict=True)
            return [one if isinstance(one, DataError) else Product(mark) for one, mark in pairs]

        return both


@dataclass(frozen=True)
class Records:
    """Each item as a JSON value in one of our own layouts, measured."""

    def begin(self) -> Made:
        return lambda items: [Product(item.to_record(), measure(item)) for item in items]


@dataclass(frozen=True)
class Lengths:
    """Each item measured, in tokens too where there is a tokenizer."""

    tokenizer: PreTrainedTokenizerFast | None

    def begin(self) -> Made:
        return self._measured

    def _measured(self, items: Sequence[Item]) -> list[Product]:
        return [Product(None, measure(item), self._tokens(item)) for item in items]

    def _tokens(self, item: Item) -> int | None:
        if self.tokenizer is None:
            return None
        return sum(map(len, encode_texts(self.tokenizer, list(texts_of(item)))))


def _with(sound: Sound, product: Product | DataError) -> Sound | Turned:
    if isinstance(product, DataError):
        reject = Reject(sound.file, sound.line, product.message, product.hint)
        return Turned("rejected", reject, findings=sound.findings)
    return replace(sound, product=product)


def _same(row: Row, similarity: float) -> Turned:
    reason, kind, both = "says the same as", "says the same as an earlier row", "keep"
    if similarity < 1.0:
        reason, kind = f"is {similarity:.0%} the same as", "is almost an earlier row"
        both = "exact"
    error = DataError(reason, f"the earlier row is used; --duplicates {both} uses both")
    return Turned("duplicates", row.reject(error), kind)


def _nothing_left(row: Row) -> Turned:
    error = DataError(
        "every passage of it stands in earlier rows", "a larger --repeats cuts less, 0 nothing"
    )
    return Turned("duplicates", row.reject(error))


def _filtered(row: Row, findings: tuple[Finding, ...]) -> Turned:
    reason = next(finding for finding in findings if finding.action == "filtered")
    error = DataError(
        f"{reason.rule}: {reason.detail}", f"leave the rule `{reason.rule}` away to keep such rows"
    )
    return Turned("filtered", row.reject(error), reason.rule, findings)


def _contaminated(row: Row, findings: tuple[Finding, ...], matches: tuple[Match, ...]) -> Turned:
    match = matches[0]
    error = DataError(
        f"holds question {match.item} of the benchmark {match.benchmark} "
        f"({match.how}, {match.share:.0%}): {match.excerpt}",
        "a model that was trained on it cannot be examined with it",
    )
    kind = f"benchmark {match.benchmark}"
    return Turned("filtered", row.reject(error), kind, findings, matches)
