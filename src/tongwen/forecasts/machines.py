"""Machines: this one as it is found, others by name from `machines.toml`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from tongwen.config import Device, Precision
from tongwen.errors import ConfigError
from tongwen.models.cost import LINK, Speed
from tongwen.models.device import card_name, device_of
from tongwen.models.machine import compute_dtype, matrix_peak, prepare_machine
from tongwen.models.room import free_memory
from tongwen.native import kernels
from tongwen.progress import counted
from tongwen.settings import nearest

HERE = "here"
GIB = 2**30
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# A card computes in the first of these that it has, as `--precision auto` does.
PREFERRED = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class Machine:
    """What computes: a card, or a processor with its memory."""

    name: str
    memory: float
    """Bytes that a program can have."""
    peaks: dict[str, float]
    """FLOP/s of dense matrix products in each precision that it has."""
    card: bool
    link: float = 0.0
    """Bytes per second between a card and the memory of its host, one way."""
    threads: int = 1
    """Of a processor, which compute together."""
    compiled: bool = True
    """Whether our kernels can be compiled there."""

    def speed(self, precision: str) -> Speed:
        """How fast it computes in a precision that it has."""
        return Speed(self.peaks[precision], self.threads, self.link)

    def precision(self, asked: Precision) -> str:
        """The precision that is computed in."""
        if asked == "auto":
            return next(name for name in PREFERRED if name in self.peaks)
        if asked not in self.peaks:
            raise ConfigError(
                f"--precision {asked} is not what {self.name} computes in",
                f"it has {', '.join(self.peaks)}",
            )
        return asked


def machine(name: str, threads: int, precision: Precision, device: Device = "auto") -> Machine:
    """The machine that a name stands for: its words in any order, as many as single it out.

    `here` is what `device` means on this machine.
    """
    if name == HERE:
        return _this_one(threads, precision, device_of(device))
    words = set(_words(name))
    found = [known for known in _table() if words <= set(_words(known))]
    exact = [known for known in found if set(_words(known)) == words]
    match exact or found:
        case [one]:
            return _named(one)
        case []:
            meant = nearest(name, _table())
            hint = f"did you mean `{meant}`?" if meant else f"known: {', '.join(_table())}"
            raise ConfigError(f"no machine `{name}` is known", hint)
        case several:
            raise ConfigError(f"`{name}` can be {' or '.join(several)}", "say which one")


def _words(name: str) -> list[str]:
    """Runs of letters and of digits: `RTX4090` is `rtx 4090`, `80G` is `80`."""
    found = re.findall(r"[a-z]+|[0-9]+", name.lower())
    return [word for word in found if word not in {"g", "gb", "gib", "nvidia", "geforce"}]


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = files("tongwen.forecasts").joinpath("machines.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _named(name: str) -> Machine:
    entry = _table()[name]
    return Machine(
        name=name,
        memory=entry["memory_gib"] * GIB,
        peaks={kind: entry[kind] * 1e12 for kind in PREFERRED if kind in entry},
        card=not entry.get("processor", False),
        link=entry.get("bandwidth_gb", 0.0) * 1e9,
        threads=entry.get("threads", 1),
    )


def _this_one(threads: int, precision: Precision, device: torch.device) -> Machine:
    """This machine; its peak is measured in the precision that will be computed in."""
    count = prepare_machine(threads)
    dtype = compute_dtype(precision, device)
    kind = next(kind for kind, value in DTYPES.items() if value == dtype)
    card = device.type == "cuda"
    name = f"this machine, {counted(count, 'thread')}"
    return Machine(
        card_name(device) if card else name,
        float(free_memory(device)),
        {kind: matrix_peak(dtype, device)},
        card=card,
        link=LINK,
        threads=count,
        compiled=not card and kernels() is not None,
    )
