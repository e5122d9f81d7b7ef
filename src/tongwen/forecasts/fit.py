"""Settings that fit, in the order of what they cost.

What changes least comes first: a smaller micro-batch costs next to nothing and the result is the
same; activations that are computed again cost a third of the time; moments of 8 bits cost some
exactness; adapters learn less than all weights do, and a quantised base is not quite the base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tongwen.config.adapter import SETTINGS
from tongwen.forecasts.case import Case
from tongwen.forecasts.result import Proposal

METHODS = ("full", "lora", "qlora")
Change = dict[str, Any]


def proposals(case: Case) -> list[Proposal]:
    """For the method that is asked for, and each that takes less, the change that costs least."""
    found = []
    for methods in _methods(case):
        for change in _changes(case, methods):
            changed = _with(case, change)
            if changed.verdict == "fits":
                found.append(Proposal(change, changed.memory.peak, changed.seconds_per_step))
                break
    return found


def _methods(case: Case) -> Iterator[Change]:
    yield {}
    now = case.config.method
    # An adapter over a new model would teach it nothing, and a judge is trained in full.
    judge = case.config.objective == "reward"
    if now in METHODS and case.config.model is not None and not judge:
        yield from ({"method": method} for method in METHODS[METHODS.index(now) + 1 :])


def _changes(case: Case, method: Change) -> Iterator[Change]:
    """Changes beside the method, those that cost least first."""
    config = case.config
    for optimizer in dict.fromkeys((config.optimizer, "adamw8bit")):
        for checkpointing in dict.fromkeys((config.checkpointing, True)):
            for micro in _halvings(case):
                now = {
                    "optimizer": optimizer,
                    "checkpointing": checkpointing,
                    "micro_batch_tokens": micro,
                }
                yield method | {
                    key: value for key, value in now.items() if value != getattr(config, key)
                }


def _halvings(case: Case) -> Iterator[int]:
    """Micro-batches down to a single item."""
    micro = case.config.micro_batch_tokens
    yield micro
    while micro // 2 >= case.work.longest:
        micro //= 2
        yield micro


def _with(case: Case, change: Change) -> Case:
    """The training with other settings; those that belong to its former method alone fall away."""
    values = {key: getattr(case.config, key) for key in case.config.model_fields_set} | change
    if "method" in change:
        foreign = {name for names in SETTINGS.values() for name in names}
        for name in foreign - set(SETTINGS[change["method"]]):
            values.pop(name, None)
    return replace(case, config=type(case.config)(**values))
