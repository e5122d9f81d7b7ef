"""The machine that computes: threads, memory allocator, and how fast its matrix products are."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from functools import cache

import torch

from tongwen.config import Precision
from tongwen.models.device import CPU, capability, synchronize

# bf16 is taken where its products are at least this much faster; where a processor only emulates
# it they are several times slower.
BF16_GAIN = 1.3
DTYPES: dict[Precision, torch.dtype] = {
    "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32,
}  # fmt: skip
# Of a generation of cards; from 8 on all have those for bf16.
_TENSOR_CORES = {7: torch.float16, 8: torch.bfloat16}
# A step asks for twenty to forty shapes.
PRODUCTS_KEPT = 64
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# What torch takes for the number of physical cores, before anyone changes it.
_THREADS_AT_START = torch.get_num_threads()


def prepare_machine(threads: int) -> int:
    """Set compute threads (0: one per physical core) and the allocator; returns the threads.

    glibc gives every large tensor back to the kernel and takes a page fault per 4 KiB to get it
    again; keeping the memory made training 1.4 times faster (docs/log.md). What is kept falls into
    pieces with time: `release_memory` gives the free ones back. oneDNN keeps 0.6 MB for each of the
    last 1,024 shapes of a bf16 product, and rows of whole documents make new shapes at every step:
    unless the environment says otherwise, it keeps those of a step or two.
    """
    for cache_of_products in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache_of_products, str(PRODUCTS_KEPT))
    count = threads or _physical_cores()
    torch.set_num_threads(count)
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    return count


def release_memory() -> None:
    """Give memory that is kept but free back to the system."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL("libc.so.6") if platform.libc_ver()[0] == "glibc" else None


def _physical_cores() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(usable or 1, _THREADS_AT_START))


def matrix_peak(dtype: torch.dtype, device: torch.device = CPU) -> float:
    """Floating-point operations per second of large matrix products here, the best of a few.

    The yardstick of MFU: the share of this peak that training reaches. Measured once a process.
    """
    return _measured_peak(dtype, device)


@cache
def _measured_peak(dtype: torch.dtype, device: torch.device) -> float:
    # Where fp16 has no instructions, a large product takes a minute and a small one shows as much.
    size = 256 if dtype == torch.float16 else 1024
    if device.type != "cpu":
        size = 4096
    shapes = (2 * size, size), (size, 2 * size)
    a, b = (torch.randn(shape, device=device).to(dtype) for shape in shapes)
    best = float("inf")
    deadline = time.perf_counter() + 0.4
    while time.perf_counter() < deadline:
        synchronize(device)
        begin = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * (2 * size) * size * (2 * size) / best


def compute_dtype(precision: Precision, device: torch.device = CPU) -> torch.dtype:
    """The dtype to compute in; `auto` measures which is faster on this machine.

    Of a card it is known: there are tensor cores for bf16 from Ampere on, for fp16 from Volta on.
    """
    if precision == "auto" and device.type != "cpu":
        generation, _ = capability(device)
        return _TENSOR_CORES.get(min(generation, 8), torch.float32)
    if precision == "auto":
        faster = matrix_peak(torch.bfloat16) > BF16_GAIN * matrix_peak(torch.float32)
        return torch.bfloat16 if faster else torch.float32
    return DTYPES[precision]


def precision_of(dtype: torch.dtype) -> Precision:
    """The name of the precision that computes in a dtype."""
    return next(name for name, computed in DTYPES.items() if computed == dtype)
