"""What a forecast says, and how it is written down."""

from __future__ import annotations

from dataclasses import dataclass

from tongwen.models.room import Verdict
from tongwen.progress import duration

GIB = 2**30
DAY = 86400


@dataclass(frozen=True)
class Proposal:
    """Settings that fit."""

    settings: dict[str, str | int | bool]
    """What to change, by the names of the settings."""
    peak_bytes: float
    seconds_per_step: float

    @property
    def flags(self) -> str:
        """The change on the command line."""
        words = []
        for name, value in self.settings.items():
            option = "--" + name.replace("_", "-")
            words.append(option if value is True else f"{option} {value}")
        return " ".join(words)


@dataclass(frozen=True)
class Forecast:
    """What a training will take. Bytes are of one process."""

    stage: str
    model: str
    parameters: int
    trainable: int
    machine: str
    precision: str
    memory: dict[str, float]
    """Bytes by kind at the peak."""
    phase: str
    """When the peak is: loading, forward, backward, gathering or update."""
    peak_bytes: float
    margin: float
    """Share of the peak by which it may be wrong."""
    available_bytes: float
    host_bytes: float
    verdict: Verdict
    tokens_per_step: float
    seconds_per_step: float
    efficiency: float
    """Share of the matrix peak that the time supposes."""
    steps: int | None
    """Optimiser steps; None where the amount of data is not known."""
    disk: dict[str, float]
    disk_free_bytes: float
    assumptions: list[str]
    proposals: list[Proposal] | None
    """Settings that fit, cheapest first; None where they were not asked for."""

    @property
    def seconds(self) -> float | None:
        """Time of the whole run, without evaluating and saving."""
        return None if self.steps is None else self.steps * self.seconds_per_step

    def __str__(self) -> str:
        blocks = [self._head(), self._memory(), self._verdict(), self._cost()]
        if self.assumptions:
            blocks.append("\n".join(["supposed", *(f"  {one}" for one in self.assumptions)]))
        if self.proposals is not None:
            blocks.append(self._proposals())
        return "\n\n".join(blocks)

    def _head(self) -> str:
        learns = "all learn" if self.trainable == self.parameters else f"{self.trainable:,} learn"
        return (
            f"{self.stage}   {self.model}, {self.parameters:,} parameters, {learns}\n"
            f"machine    {self.machine}, {self.precision}, {gib(self.available_bytes)} GiB usable"
        )

    def _memory(self) -> str:
        lines = [f"memory at its peak, {WHEN[self.phase]}"]
        lines += [f"  {kind:<20}{gib(size):>9} GiB" for kind, size in self.memory.items()]
        lines.append(f"  {'together':<20}{gib(self.peak_bytes):>9} GiB  ± {self.margin:.0%}")
        if self.host_bytes:
            lines.append(f"  {'beside it, on the host':<20}{gib(self.host_bytes):>7} GiB")
        return "\n".join(lines)

    def _verdict(self) -> str:
        highest = self.peak_bytes * (1 + self.margin)
        left = self.available_bytes - highest
        if self.verdict == "fits":
            return f"fits: at least {gib(left)} GiB stay free"
        if self.verdict == "may fit":
            return f"may fit: at worst {gib(-left)} GiB are missing"
        missing = self.peak_bytes - self.available_bytes
        return f"does not fit: {gib(missing)} GiB are missing"

    def _cost(self) -> str:
        rate = self.tokens_per_step / self.seconds_per_step
        line = (
            f"time   {short(self.seconds_per_step)} for a step of {self.tokens_per_step:,.0f} "
            f"tokens, {rate:,.0f} tokens/s, at {self.efficiency:.0%} of the matrix peak"
        )
        if self.seconds is not None:
            line += f"\n       {long(self.seconds)} for {self.steps:,} steps"
        parts = ", ".join(f"{kind} {gib(size)}" for kind, size in self.disk.items())
        needed = sum(self.disk.values())
        short_of = "" if needed <= self.disk_free_bytes else "; this is too little"
        return (
            f"{line}\ndisk   {gib(needed)} GiB ({parts}); "
            f"{gib(self.disk_free_bytes)} GiB are free here{short_of}"
        )

    def _proposals(self) -> str:
        if not self.proposals:
            return "nothing that these settings can change makes it fit"
        lines = ["fits with, the cheapest first"]
        lines += [
            f"  {one.flags or 'these settings'}\n      {gib(one.peak_bytes)} GiB, "
            f"{short(one.seconds_per_step)} for a step"
            for one in self.proposals
        ]
        return "\n".join(lines)


WHEN = {
    "loading": "while the weights are loaded",
    "forward": "at the end of the forward pass",
    "backward": "in the backward pass",
    "gathering": "at the end of the backward pass",
    "update": "at the update of the weights",
}


def gib(size: float) -> str:
    """`25385500000` → `23.64`; what is there is never shown as none."""
    return "< 0.01" if 0 < size < 0.005 * GIB else f"{size / GIB:,.2f}"


def short(seconds: float) -> str:
    """A time below a minute with its fractions."""
    return f"{seconds:.2f} s" if seconds < 60 else duration(seconds)


def long(seconds: float) -> str:
    """A time in days where there are some."""
    return f"{seconds / DAY:,.1f} days" if seconds > 2 * DAY else duration(seconds)
