"""The setting of where a model computes."""

from __future__ import annotations

from typing import Literal

from tongwen.config.base import Config

Device = Literal["auto", "cpu", "cuda"]


class DeviceConfig(Config):
    """Where a model computes."""

    device: Device = "auto"
    """Compute on the processor or on a CUDA card; auto takes a card where torch sees one."""
