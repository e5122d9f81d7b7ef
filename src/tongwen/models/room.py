"""Whether a training fits: what is free here, and how far a forecast may be wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

import torch

from tongwen.models.device import CPU

Verdict = Literal["fits", "may fit", "does not fit"]
MARGIN = {"processor": 0.15, "card": 0.15}
"""Share of the peak that a forecast may be wrong by: on a processor, more than by any measurement
of `benchmarks/forecast.py` and in long runs; on a card, as against published tables."""


def verdict_of(peak: float, margin: float, available: float) -> Verdict:
    """`fits` only where the peak does with the whole margin on top."""
    if peak * (1 + margin) <= available:
        return "fits"
    return "may fit" if peak <= available * (1 + margin) else "does not fit"


def free_memory(device: torch.device = CPU) -> int:
    """Bytes that a new process can have: free on a card, or within the limit of a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = re.search(r"MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"))
    free = int(found[1]) * 1024 if found else pages
    limit, used = (_text(f"/sys/fs/cgroup/memory.{kind}").strip() for kind in ("max", "current"))
    return min(free, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else free


def _text(path: str) -> str:
    """What a file of the kernel says; nothing where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
