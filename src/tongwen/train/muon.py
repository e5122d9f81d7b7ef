"""Muon (Jordan 2024, kellerjordan.github.io/posts/muon): steps along orthogonal matrices.

The momentum of a hidden matrix is brought near the closest matrix whose singular values are all 1,
by five quintic Newton-Schulz iterations, and scaled by 0.2·√max(rows, columns), so that its mean
square is about that of an AdamW update and AdamW's learning rate and weight decay can be used
(Liu et al. 2025, Moonlight, arXiv:2502.16982, section 2.2). Its momentum is half of AdamW's state.
Embeddings, the output head and vectors are not maps between hidden states; AdamW moves them.
"""

from __future__ import annotations

import torch

from tongwen.config import OptimizerConfig
from tongwen.train.rules import AdamW, Named, Rule, Together, TorchRule, is_decayed

MOMENTUM = 0.95


def muon(named: Named, config: OptimizerConfig) -> Rule:
    """Muon for the hidden matrices, AdamW for the rest."""
    hidden = {
        name: master
        for name, master in named.items()
        if master.ndim == 2 and is_decayed(name, master)
    }
    rest = {name: master for name, master in named.items() if name not in hidden}
    rules: list[Rule] = []
    if hidden:
        matrices = torch.optim.Muon(
            list(hidden.values()),
            weight_decay=config.weight_decay,
            momentum=MOMENTUM,
            adjust_lr_fn="match_rms_adamw",
        )
        rules.append(TorchRule(hidden, matrices, ("momentum_buffer",)))
    if rest:
        rules.append(AdamW(rest, config))
    return Together(rules)
