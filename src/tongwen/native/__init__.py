"""Kernels in C++ for what stands between matrix products on a CPU, compiled on first use."""

from __future__ import annotations

from tongwen.native.kernels import (
    DTYPES,
    HEAD_MULTIPLE,
    Heads,
    Kernels,
    Mask,
    add_in_place,
    kernels,
)

__all__ = ["DTYPES", "HEAD_MULTIPLE", "Heads", "Kernels", "Mask", "add_in_place", "kernels"]
