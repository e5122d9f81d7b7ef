"""Settings of the command that reads other trainers' configs."""

from __future__ import annotations

from pathlib import Path

from tongwen.config.base import Config, Positive


class DataImportConfig(Config):
    """Turn a LLaMA-Factory, ms-swift or axolotl config into ours, and account for each key."""

    file: Path
    """YAML or JSON of settings, or a shell script with a `swift` command."""
    out: Path | None = None
    """TOML file to write; without it the settings are printed."""
    data: tuple[Path, ...] = ()
    """The data to train on, instead of those that the config names."""
    devices: Positive = 1
    """Devices that the config was run on; the batch is over all of them."""
    leave_out: tuple[str, ...] = ()
    """Keys that would be refused and that you can do without."""
