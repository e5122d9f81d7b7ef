"""A config of another trainer as it was read, and what can become of one of its keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tongwen.config.imports import DataImportConfig
from tongwen.data.foreign_keys import Framework

Fate = Literal["taken", "idle", "moved", "refused"]
Verb = Literal["pretrain", "finetune", "align"]

OBJECTIVES: Final = {"ipo": "dpo", "rm": "reward"}
"""Objectives of ours under the names of others, where they have another one."""


@dataclass(frozen=True)
class Foreign:
    """A config as it was read."""

    framework: Framework
    values: Mapping[str, object]
    """Its keys, and those whose defaults differ from ours."""
    config: DataImportConfig

    @property
    def verb(self) -> Verb:
        """The command of ours that does what it asks for."""
        if self.objective:
            return "align"
        stages = ("pt", "pretrain")
        text = any(self.values.get(key) in stages for key in ("stage", "command"))
        return "pretrain" if text or self.values.get("pretraining_dataset") else "finetune"

    @property
    def objective(self) -> str:
        """What is learned from preferences, by our name if we have it; empty without any."""
        values = self.values
        stage = values.get("stage") or values.get("rl") or values.get("rlhf_type")
        if values.get("command") == "rlhf":
            stage = values.get("rlhf_type") or "dpo"
        if stage == "dpo" and values.get("pref_loss") in ("orpo", "simpo"):
            stage = values["pref_loss"]
        return "" if stage in (None, "sft", "pt") else OBJECTIVES.get(str(stage), str(stage))

    @property
    def method(self) -> str:
        """What of a model learns, by our name if we have it."""
        keys = ("finetuning_type", "tuner_type", "train_type", "sft_type", "adapter")
        named = str(next(filter(None, map(self.values.get, keys)), "full"))
        return "qlora" if named == "lora" and self.bits else named

    @property
    def bits(self) -> int | None:
        """The bits in which the weights that do not learn are stored, if they are fewer."""
        values = self.values
        if values.get("adapter") == "qlora" or values.get("load_in_4bit") is True:
            return 4
        if values.get("load_in_8bit") is True:
            return 8
        given = number(values.get("quantization_bit")) or number(values.get("quant_bits"))
        return int(given) if given else None

    @property
    def row_tokens(self) -> int | None:
        """Tokens of every row where rows are packed to full length."""
        packed = any(self.values.get(key) is True for key in self.framework.packing.split())
        length = number(self.values.get(self.framework.length))
        return int(length) if length and (packed or self.verb == "pretrain") else None

    def lacks(self, key: str) -> str | None:
        """What a key needs to have a meaning and the config does not ask for."""
        for beginning, (what, needed) in self.framework.only.items():
            if key.startswith(beginning) and getattr(self, what) not in needed:
                return f"{what} {needed[0]}"
        return None


@dataclass(frozen=True)
class Asked:
    """One key of a config."""

    foreign: Foreign
    key: str
    value: object


@dataclass(frozen=True)
class Answer:
    """What becomes of one key."""

    fate: Fate
    text: str
    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings of ours that follow from it."""


def taken(**settings: object) -> Answer:
    """Taken under our names."""
    said = ", ".join(f"{key} = {shown(value)}" for key, value in settings.items())
    return Answer("taken", f"as {said}", settings)


def idle(text: str) -> Answer:
    """Without effect on what is learned, for a reason."""
    return Answer("idle", text)


def refused(text: str) -> Answer:
    """Not to be followed here, for a reason."""
    return Answer("refused", text)


def words(value: object) -> list[str]:
    """The names in a list, or in a text with commas."""
    listed = value if isinstance(value, list) else str(value).split(",")
    return [str(word).strip() for word in listed if str(word).strip()]


def number(value: object) -> float | None:
    """A finite number, also where YAML or a shell left it as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def plain(value: object) -> object:
    """The value, as a number where it is the text of one."""
    found = number(value) if isinstance(value, str) else None
    if found is None:
        return value
    return int(found) if found.is_integer() and "." not in str(value) else found


def shown(value: object) -> str:
    """A value of ours, as TOML would have it, roughly."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, str | Path):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)
