"""What the keys of other trainers' configs are here: the tables of `foreign_keys.toml`.

A key is taken (under our name for it, or through a converter), idle (it does not change what is
learned, or is always so here), or refused (it would change what is learned, and there is nothing
like it here). A key in none of these is unknown, and refused too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Said = Mapping[str, str]
"""Keys, separated by blanks, under what is said of all of them."""


@dataclass(frozen=True)
class Framework:
    """The keys of one trainer."""

    name: str
    marks: str
    """Keys by which its configs are recognised."""
    packing: str
    """Keys that say that rows are packed to full length."""
    length: str
    """Key of the length of a packed row."""
    taken: Said
    """Keys under the name of the setting that they are here."""
    converted: Said
    """Keys under the name of what turns their value into settings of ours."""
    idle: Said
    refused: Said
    only: Mapping[str, tuple[Literal["method", "objective"], tuple[str, ...]]]
    """Beginnings of keys that have a meaning with some methods or objectives alone."""
    defaults: Mapping[str, object]
    """What it does where a key is absent, if it would do something else than we."""
    adapter_defaults: Mapping[str, object]
    """The same, with LoRA."""


def _frameworks() -> tuple[Framework, ...]:
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    trainers = (table for table in tables.values() if "name" in table)
    return tuple(_framework(table, tables.get(table.get("shares"), {})) for table in trainers)


def _framework(table: Mapping[str, Any], shared: Mapping[str, Any]) -> Framework:
    def said(kind: str) -> Said:
        own, common = table[kind], shared.get(kind, {})
        return {about: f"{common.get(about, '')} {own.get(about, '')}" for about in common | own}

    return Framework(
        name=table["name"],
        marks=table["marks"],
        packing=table["packing"],
        length=table["length"],
        taken=said("taken"),
        converted=said("converted"),
        idle=said("idle"),
        refused=said("refused"),
        only={key: (what, tuple(needed)) for key, (what, needed) in table["only"].items()},
        defaults=shared.get("defaults", {}) | table["defaults"],
        adapter_defaults=table.get("adapter_defaults", {}),
    )


FRAMEWORKS: Final = _frameworks()
MS_SWIFT: Final = next(framework for framework in FRAMEWORKS if framework.name == "ms-swift")
