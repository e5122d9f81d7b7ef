"""How weights move along their gradients: what a rule is, and AdamW.

Every rule works on fp32 masters, by name, and is deterministic. AdamW moves every number by itself,
so that it works on any part of a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from tongwen.config import OptimizerConfig

State = dict[str, Tensor]
Named = Mapping[str, Tensor]


class Rule(Protocol):
    """How weights move along their gradients."""

    def step(self, lr: float) -> None:
        """Update the masters in place, from their `grad`."""

    def state(self) -> State:
        """What the rule remembers, as `PARAMETER.KEY`."""

    def load(self, state: State) -> None:
        """Take what `state()` gave."""


class TorchRule:
    """A rule of torch's own, which remembers `keys` of every weight."""

    def __init__(self, named: Named, rule: torch.optim.Optimizer, keys: Sequence[str]) -> None:
        self._named = named
        self._rule = rule
        self._keys = keys

    def step(self, lr: float) -> None:
        """Update the masters in place."""
        for group in self._rule.param_groups:
            group["lr"] = lr
        self._rule.step()

    def state(self) -> State:
        """The moments and step counts, by parameter name."""
        return {
            f"{name}.{key}": value
            for name, master in self._named.items()
            for key, value in (self._rule.state[master] or self._begun(master)).items()
        }

    def _begun(self, master: Tensor) -> State:
        """What torch's rule begins with at the first gradient of a weight."""
        count = torch.zeros((), device=master.device)
        return {key: count if key == "step" else torch.zeros_like(master) for key in self._keys}

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        for name, master in self._named.items():
            self._rule.state[master] = {
                key: state[f"{name}.{key}"].to(master.device, copy=True) for key in self._keys
            }


class AdamW(TorchRule):
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) over fp32 masters."""

    def __init__(self, named: Named, config: OptimizerConfig) -> None:
        decayed: list[Tensor] = []
        rest: list[Tensor] = []
        for name, master in named.items():
            (decayed if is_decayed(name, master) else rest).append(master)
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        filled = [group for group in groups if group["params"]]
        rule = torch.optim.AdamW(filled, betas=config.betas, eps=config.eps, fused=True)
        super().__init__(named, rule, ("step", "exp_avg", "exp_avg_sq"))


class Together:
    """Several rules, each for weights of its own."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules

    def step(self, lr: float) -> None:
        """Update the masters in place."""
        for rule in self._rules:
            rule.step(lr)

    def state(self) -> State:
        """What all of them remember."""
        return {key: value for rule in self._rules for key, value in rule.state().items()}

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        for rule in self._rules:
            rule.load(state)


def is_decayed(name: str, weight: Tensor) -> bool:
    """Norms (vectors) and embeddings are scales and directions; pulling them to zero hurts."""
    return weight.ndim >= 2 and "embed" not in name and "lm_head" not in name
