"""What the bits of a result depend on besides settings and data.

The same sums in another order end in other last bits, and the loss does not show it: with another
number of threads, other instructions or another library a run learns as well, to other weights.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import torch
import transformers

import tongwen
from tongwen.config import TrainConfig
from tongwen.models.device import capability, card_name, device_of
from tongwen.native import kernels
from tongwen.native.build import SOURCES
from tongwen.train.processes import world

Environment = dict[str, str]

# What limits the instructions that the libraries of matrix products take.
LIMITS = (
    "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
)  # fmt: skip
# Families of instructions that compute; the others change no result.
COMPUTING = ("sse", "avx", "amx", "fma", "f16c", "asimd", "sve", "bf16", "fphp", "fp16")


def environment(config: TrainConfig) -> Environment:
    """Everything here that decides the last bits, by name."""
    told = _processor()
    flags = (told.get("flags") or told.get("Features") or "").split()
    computing = sorted(flag for flag in flags if flag.startswith(COMPUTING))
    return {
        "threads": str(config.threads),
        "processes": f"{world()}, sharded" if config.shard == "full" else str(world()),
        "precision": config.precision,
        "micro_batch_tokens": str(config.micro_batch_tokens),
        "card": _card(config),
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        "instructions": " ".join([torch.backends.cpu.get_cpu_capability(), *computing]),
        "limits": " ".join(f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ),
        "kernels": _kernels(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tongwen": tongwen.__version__,
    }


def differences(before: Environment, now: Environment) -> list[str]:
    """What is another than before, one sentence for each."""
    found = []
    for key in now:
        was, new = before.get(key, ""), now[key]
        if was == new:
            continue
        if key == "instructions" and was:
            gone, come = (set(a.split()) - set(b.split()) for a, b in ((was, new), (new, was)))
            words = [*(f"-{one}" for one in sorted(gone)), *(f"+{one}" for one in sorted(come))]
            found.append(f"instructions are now {' '.join(words)}")
        else:
            found.append(f"{key} was {was or 'not set'}, is now {new or 'not set'}")
    return found


def _card(config: TrainConfig) -> str:
    """The card that computes, and the CUDA that torch was built with; empty on a processor."""
    device = device_of(config.device)
    if device.type == "cpu":
        return ""
    generation = ".".join(map(str, capability(device)))
    return f"{card_name(device)}, compute capability {generation}, CUDA {torch.version.cuda}"


def _processor() -> dict[str, str]:
    """What Linux tells of the first processor."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    first = path.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _kernels() -> str:
    """sha256 of the sources of our own kernels, where they are in use."""
    if kernels() is None:
        return "none"
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
