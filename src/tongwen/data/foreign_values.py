"""What the values of other trainers' keys become: one function for each kind of key.

Each is asked for one key, sees the whole config, and answers what becomes of the key. Those of what
learns, from what and by which rule are in foreign_learning.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tongwen.data.foreign_config import Answer, Asked, idle, number, refused, taken
from tongwen.data.foreign_learning import LEARNING, Converter
from tongwen.errors import TongwenError
from tongwen.messages.dataset_info import load_entry

LAYOUTS: Final = ("alpaca", "sharegpt", "chat_template", "completion", "pretrain", "jeopardy")
DATASET_KEYS: Final = ("path", "type", "ds_type", "data_files", "split", "conversation")
FLOOR_KEYS: Final = ("lr_scheduler_kwargs", "cosine_min_lr_ratio")


def _pretraining(it: Asked) -> Answer:
    if not it.value:
        return idle("not asked for")
    return _listed_data(it)


def _schedule(it: Asked) -> Answer:
    if it.value in ("cosine", "cosine_with_min_lr", "cosine_warmup_with_min_lr"):
        floor = _floor(it)
        return _no_floor() if floor is None else taken(schedule="cosine", min_lr=floor)
    if it.value == "warmup_stable_decay":
        return taken(schedule="wsd")
    if it.value in ("linear", "constant"):
        return taken(schedule=it.value)
    if it.value == "constant_with_warmup":
        return taken(schedule="constant")
    return refused(f"'{it.value}': there is nothing like it here")


def _floor(it: Asked) -> float | None:
    """Where the cosine ends, as a share of the highest learning rate; None if that is not said."""
    given = [value for key in FLOOR_KEYS if (value := it.foreign.values.get(key))]
    if not given:
        return 0.0
    if not isinstance(given[0], Mapping):
        return number(given[0])
    said, lr = dict(given[0]), number(it.foreign.values.get("learning_rate"))
    share, least = number(said.pop("min_lr_rate", None)), number(said.pop("min_lr", None))
    if said or len(given) > 1:
        return None
    return share if least is None else least / lr if lr else None


def _no_floor() -> Answer:
    return refused(f"{' and '.join(FLOOR_KEYS)} say more than where the cosine ends")


def _cosine_floor(it: Asked) -> Answer:
    if not it.value:
        return idle("not asked for")
    schedules = [it.foreign.values.get(key) for key in ("lr_scheduler_type", "lr_scheduler")]
    if not any("cosine" in str(schedule) for schedule in schedules):
        return refused("there is nothing like it for this schedule")
    return _no_floor() if _floor(it) is None else Answer("taken", "in min_lr")


def _rows(it: Asked) -> Answer:
    """Rows that are packed to full length are counted in tokens, others as rows."""
    rows = number(it.value)
    if rows is None or rows < 1:
        return refused("a number of rows in a batch is needed")
    steps = number(it.foreign.values.get("gradient_accumulation_steps")) or 1
    devices = it.foreign.config.devices
    if it.foreign.row_tokens is None:
        return taken(batch_rows=int(rows * steps * devices))
    micro = int(rows) * it.foreign.row_tokens
    return taken(batch_tokens=int(micro * steps * devices), micro_batch_tokens=micro)


def _steps(it: Asked) -> Answer:
    steps = number(it.value)
    if steps is None or steps <= 0:
        return idle("the epochs decide")
    return taken(steps=int(steps))


def _epochs(it: Asked) -> Answer:
    if (number(it.foreign.values.get("max_steps")) or 0) > 0:
        return idle("the steps decide")
    return taken(epochs=number(it.value))


def _warmup(it: Asked) -> Answer:
    if number(it.foreign.values.get("warmup_steps")):
        return idle("the warm-up is given in steps")
    return taken(warmup=number(it.value))


def _warmup_steps(it: Asked) -> Answer:
    warm = number(it.value)
    if not warm:
        return idle("the warm-up is given as a share, or there is none")
    if warm < 1:
        return taken(warmup=warm)
    return taken(warmup_steps=int(warm))


def _accumulation(_it: Asked) -> Answer:
    return Answer("taken", "in batch_tokens")


def _every(it: Asked) -> Answer:
    steps, what = number(it.value), it.key.removesuffix("_steps")
    if steps is None or steps < 1:
        return idle(f"{what}s come about every minute, or a tenth of the run")
    return taken(**{f"{what}_every": int(steps)})


def _bf16(it: Asked) -> Answer:
    if it.value in (True, "true", "full"):
        return taken(precision="bf16")
    return idle("the faster of bf16 and fp32 is taken")


def _fp16(it: Asked) -> Answer:
    if it.value in (True, "true"):
        return taken(precision="fp16")
    return idle("not asked for")


def _dtype(it: Asked) -> Answer:
    known = {"bfloat16": "bf16", "float32": "fp32"}
    if isinstance(it.value, str) and it.value in known:
        return taken(precision=known[it.value])
    return _fp16(replace(it, value=it.value == "float16"))


def _length(it: Asked) -> Answer:
    tokens = number(it.value)
    if tokens is None:
        return refused("a length in tokens is a number")
    if it.foreign.verb == "pretrain":
        return taken(context=int(tokens))
    return Answer("moved", f"--max-length {int(tokens)}")


def _held_out(it: Asked) -> Answer:
    share = number(it.value) or 0.0
    if share >= 1:
        return refused("rows are held out by share here, not by number")
    return Answer("moved", f"--hold-out {share:g}")


def _packed(_it: Asked) -> Answer:
    return idle("rows always stand side by side, and none sees another")


def _data(it: Asked) -> Answer:
    """Paths, or names in a hub with `#` and a number of rows."""
    if it.foreign.config.data:
        return idle("--data is taken instead")
    listed = it.value if isinstance(it.value, list) else [it.value]
    paths = [path for path in listed if isinstance(path, str)]
    if not paths or len(paths) < len(listed):
        return refused("there is no path: give --data")
    if drawn := [path for path in paths if "#" in path]:
        return refused(f"'{drawn[0]}' draws some rows: write them into a file, and give --data")
    if missing := [path for path in paths if not Path(path).exists()]:
        return refused(f"'{missing[0]}' is not on this machine: give --data")
    return taken(data=paths)


def _info_data(it: Asked) -> Answer:
    """Names of entries in a `dataset_info.json`, separated by commas."""
    if it.foreign.config.data:
        return idle("--data is taken instead")
    names = it.value if isinstance(it.value, list) else str(it.value).split(",")
    folder = Path(str(it.foreign.values.get("dataset_dir") or "data"))
    try:
        entries = [load_entry(folder / "dataset_info.json", str(name).strip()) for name in names]
        return taken(data=[str(entry.source()) for entry in entries])
    except TongwenError as error:
        return refused(f"{error.message}: give --data")


def _listed_data(it: Asked) -> Answer:
    """axolotl's list of `{path, type, …}`."""
    if it.foreign.config.data:
        return idle("--data is taken instead")
    entries = it.value if isinstance(it.value, list) else [it.value]
    paths: list[object] = []
    for place, entry in enumerate(entries, 1):
        listed = {"path": entry} if isinstance(entry, str) else entry
        if not isinstance(listed, Mapping):
            return refused(f"entry {place} has no path: give --data")
        if other := [name for name in listed if name not in DATASET_KEYS]:
            return refused(f"entry {place} has '{other[0]}': map the layout, and give --data")
        kind = str(listed.get("type") or LAYOUTS[0]).partition(".")[0].partition(":")[0]
        if kind not in LAYOUTS or listed.get("split", "train") != "train":
            return refused(f"entry {place} is not a plain file of a known layout: give --data")
        found = listed.get("data_files") or listed.get("path")
        paths += found if isinstance(found, list) else [found]
    return _data(replace(it, value=paths))


NUMERIC: Final = ("epochs", "every", "held_out", "steps", "warmup", "warmup_steps")
"""Converters of keys whose values are numbers."""
CONVERTERS: Final[Mapping[str, Converter]] = {
    **LEARNING,
    "accumulation": _accumulation,
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
    "packed": _packed,
    "pretraining": _pretraining,
    "rows": _rows,
    "schedule": _schedule,
    "steps": _steps,
    "warmup": _warmup,
    "warmup_steps": _warmup_steps,
}
