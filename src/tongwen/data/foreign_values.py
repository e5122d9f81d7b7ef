"""What the values of other trainers' keys become: one function for each kind of key.

Each is asked for one key, sees the whole config, and answers what becomes of the key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from tongwen.config.imports import DataImportConfig
from tongwen.data.foreign_keys import ADAPTERS, ALIGNMENT, OPTIMISER, Framework
from tongwen.errors import TongwenError
from tongwen.messages.dataset_info import load_entry

Fate = Literal["taken", "idle", "moved", "refused"]

OURS_ADAMW: Final = ("adamw_torch", "adamw_torch_fused", "adamw", "adamw_hf", "adamw_apex_fused")
BETAS: Final = {"adam_beta1": 0.9, "adam_beta2": 0.95, "adam_epsilon": 1e-8}
LAYOUTS: Final = ("alpaca", "sharegpt", "chat_template", "completion", "pretrain", "jeopardy")
DATASET_KEYS: Final = ("path", "type", "ds_type", "data_files", "split", "conversation")


@dataclass(frozen=True)
class Foreign:
    """A config as it was read."""

    framework: Framework
    values: Mapping[str, object]
    """Its keys, and those whose defaults differ from ours."""
    config: DataImportConfig

    @property
    def pretraining(self) -> bool:
        """Whether text is learned, not answers."""
        stages = ("pt", "pretrain")
        named = any(self.values.get(key) in stages for key in ("stage", "command"))
        return named or bool(self.values.get("pretraining_dataset"))

    @property
    def row_tokens(self) -> int | None:
        """Tokens of a row: what the user says, or the full length where rows are packed."""
        packed = any(self.values.get(key) is True for key in self.framework.packing.split())
        length = number(self.values.get(self.framework.length))
        if self.config.row_tokens or not (packed or self.pretraining) or length is None:
            return self.config.row_tokens
        return int(length)


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


def taken(**settings: object) -> Answer:
    """Taken under our names."""
    said = ", ".join(f"{key} = {shown(value)}" for key, value in settings.items())
    return Answer("taken", f"as {said}", settings)


def shown(value: object) -> str:
    """A value of ours, as TOML would have it, roughly."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, str | Path):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def _refused(text: str) -> Answer:
    return Answer("refused", text)


def _stage(it: Asked) -> Answer:
    if it.value in ("sft", "pt", "pretrain"):
        return Answer(
            "taken", f"as `tongwen {'pretrain' if it.foreign.pretraining else 'finetune'}`"
        )
    return Answer("idle", "not asked for") if it.value in (None, False, "") else _refused(ALIGNMENT)


def _pretraining(it: Asked) -> Answer:
    if not it.value:
        return Answer("idle", "not asked for")
    return _listed_data(it)


def _method(it: Asked) -> Answer:
    if it.value in ("full", None, ""):
        return Answer("taken", "all weights are trained")
    return _refused(f"'{it.value}': {ADAPTERS}")


def _schedule(it: Asked) -> Answer:
    if it.value == "cosine":
        answer = taken(schedule="cosine")
        return Answer("taken", f"{answer.text}, which ends at a tenth, not at 0", answer.settings)
    if it.value in ("cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        return taken(schedule="cosine")
    if it.value == "warmup_stable_decay":
        return taken(schedule="wsd")
    if it.value in ("linear", "constant"):
        return taken(schedule=it.value)
    if it.value == "constant_with_warmup":
        return taken(schedule="constant")
    return _refused(f"'{it.value}': there is nothing like it here")


def _cosine_floor(it: Asked) -> Answer:
    given = it.value
    if isinstance(given, Mapping) and set(given) == {"min_lr_rate"}:
        given = given["min_lr_rate"]
    if given in (None, {}, "") or number(given) == 0.1:
        return Answer("idle", "the cosine ends at a tenth")
    return _refused("the cosine ends at a tenth, and at nothing else")


def _steps(it: Asked) -> Answer:
    steps = number(it.value)
    if steps is None or steps <= 0:
        return Answer("idle", "the epochs decide")
    return taken(steps=int(steps))


def _epochs(it: Asked) -> Answer:
    if (number(it.foreign.values.get("max_steps")) or 0) > 0:
        return Answer("idle", "the steps decide")
    return taken(epochs=number(it.value))


def _warmup(it: Asked) -> Answer:
    if number(it.foreign.values.get("warmup_steps")):
        return Answer("idle", "the warm-up is given in steps")
    return taken(warmup=number(it.value))


def _warmup_steps(it: Asked) -> Answer:
    warm = number(it.value)
    if not warm:
        return Answer("idle", "the warm-up is given as a share, or there is none")
    if warm < 1:
        return taken(warmup=warm)
    return taken(warmup_steps=int(warm))


def _rows(it: Asked) -> Answer:
    rows, tokens = number(it.value), it.foreign.row_tokens
    if rows is None or tokens is None:
        return _refused(
            "a batch counts tokens here, not rows: give --row-tokens, the mean length of a row"
        )
    steps = number(it.foreign.values.get("gradient_accumulation_steps")) or 1
    micro = int(rows * tokens)
    return taken(
        batch_tokens=int(micro * steps * it.foreign.config.devices), micro_batch_tokens=micro
    )


def _accumulation(_it: Asked) -> Answer:
    return Answer("taken", "in batch_tokens")


def _every(it: Asked) -> Answer:
    steps, what = number(it.value), it.key.removesuffix("_steps")
    if steps is None or steps < 1:
        return Answer("idle", f"{what}s come about every minute, or a tenth of the run")
    return taken(**{f"{what}_every": int(steps)})


def _bf16(it: Asked) -> Answer:
    if it.value in (True, "true", "full"):
        return taken(precision="bf16")
    return Answer("idle", "the faster of bf16 and fp32 is taken")


def _fp16(it: Asked) -> Answer:
    if it.value in (True, "true"):
        return taken(precision="fp16")
    return Answer("idle", "not asked for")


def _dtype(it: Asked) -> Answer:
    known = {"bfloat16": "bf16", "float32": "fp32"}
    if isinstance(it.value, str) and it.value in known:
        return taken(precision=known[it.value])
    return _fp16(replace(it, value=it.value == "float16"))


def _optimiser(it: Asked) -> Answer:
    if it.value in OURS_ADAMW:
        return Answer("taken", "AdamW, with fp32 weights behind it")
    return _refused(f"'{it.value}': {OPTIMISER}")


def _betas(it: Asked) -> Answer:
    if number(it.value) == BETAS[it.key]:
        return Answer("idle", "the same here")
    if it.value == it.foreign.framework.defaults.get(it.key):
        return Answer("idle", f"it is {BETAS[it.key]} here, which differs a little")
    return _refused(OPTIMISER)


def _length(it: Asked) -> Answer:
    tokens = number(it.value)
    if tokens is None:
        return _refused("a length in tokens is a number")
    if it.foreign.pretraining:
        return taken(context=int(tokens))
    return Answer("moved", f"--max-length {int(tokens)}")


def _held_out(it: Asked) -> Answer:
    share = number(it.value) or 0.0
    if share >= 1:
        return _refused("rows are held out by share here, not by number")
    return Answer("moved", f"--hold-out {share:g}")


def _packed(_it: Asked) -> Answer:
    return Answer("idle", "rows always stand side by side, and none sees another")


def _data(it: Asked) -> Answer:
    """Paths, or names in a hub with `#` and a number of rows."""
    if it.foreign.config.data:
        return Answer("idle", "--data is taken instead")
    listed = it.value if isinstance(it.value, list) else [it.value]
    paths = [path for path in listed if isinstance(path, str)]
    if not paths or len(paths) < len(listed):
        return _refused("there is no path: give --data")
    if drawn := [path for path in paths if "#" in path]:
        return _refused(f"'{drawn[0]}' draws some rows: write them into a file, and give --data")
    if missing := [path for path in paths if not Path(path).exists()]:
        return _refused(f"'{missing[0]}' is not on this machine: give --data")
    return taken(data=paths)


def _info_data(it: Asked) -> Answer:
    """Names of entries in a `dataset_info.json`, separated by commas."""
    if it.foreign.config.data:
        return Answer("idle", "--data is taken instead")
    names = it.value if isinstance(it.value, list) else str(it.value).split(",")
    folder = Path(str(it.foreign.values.get("dataset_dir") or "data"))
    try:
        entries = [load_entry(folder / "dataset_info.json", str(name).strip()) for name in names]
        return taken(data=[str(entry.source()) for entry in entries])
    except TongwenError as error:
        return _refused(f"{error.message}: give --data")


def _listed_data(it: Asked) -> Answer:
    """axolotl's list of `{path, type, …}`."""
    if it.foreign.config.data:
        return Answer("idle", "--data is taken instead")
    entries = it.value if isinstance(it.value, list) else [it.value]
    paths: list[object] = []
    for place, entry in enumerate(entries, 1):
        listed = {"path": entry} if isinstance(entry, str) else entry
        if not isinstance(listed, Mapping):
            return _refused(f"entry {place} has no path: give --data")
        if other := [name for name in listed if name not in DATASET_KEYS]:
            return _refused(f"entry {place} has '{other[0]}': map the layout, and give --data")
        kind = str(listed.get("type") or LAYOUTS[0]).partition(".")[0].partition(":")[0]
        if kind not in LAYOUTS or listed.get("split", "train") != "train":
            return _refused(f"entry {place} is not a plain file of a known layout: give --data")
        found = listed.get("data_files") or listed.get("path")
        paths += found if isinstance(found, list) else [found]
    return _data(replace(it, value=paths))


NUMERIC: Final = ("epochs", "every", "held_out", "steps", "warmup", "warmup_steps")
"""Converters of keys whose values are numbers."""
Converter = Callable[[Asked], Answer]
CONVERTERS: Final[Mapping[str, Converter]] = {
    "accumulation": _accumulation,
    "betas": _betas,
    "bf16": _bf16,
    "cosine_floor": _cosine_floor,
    "data": _data,
    "dtype": _dtype,
    "epochs": _epochs,
    "every": _every,
    "fp16": _fp16,
    "held_out": _held_out,
    "info_data": _info_data,
    "length": _length,
    "listed_data": _listed_data,
    "method": _method,
    "optimiser": _optimiser,
    "packed": _packed,
    "pretraining": _pretraining,
    "rows": _rows,
    "schedule": _schedule,
    "stage": _stage,
    "steps": _steps,
    "warmup": _warmup,
    "warmup_steps": _warmup_steps,
}
