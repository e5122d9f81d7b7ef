"""The optimiser: AdamW over fp32 master weights, and the learning rate of every step.

Compute may be in bf16; the weights that learn never are. A bf16 weight has 8 bits of mantissa, so
an update below 1/256 of it would vanish. Gradients of micro-batches are summed in fp32 for the
same reason.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

BETAS = (0.9, 0.95)
EPS = 1e-8


def learning_rate(
    step: int, steps: int, schedule: Literal["cosine", "wsd"], warmup: float, decay: float
) -> float:
    """The factor on the highest learning rate at `step` (from 0) of `steps`.

    Linear warm-up over `warmup` of the steps; then a cosine to 0.1 (Hoffmann et al. 2022,
    arXiv:2203.15556), or constant with a last `decay` of the steps going linearly to zero
    (warm-up, stable, decay; Hu et al. 2024, arXiv:2404.06395).
    """
    warm = round(steps * warmup)
    if step < warm:
        return (step + 1) / warm
    if schedule == "cosine":
        progress = (step - warm) / max(1, steps - warm)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))
    left = steps - step
    return min(1.0, left / max(1, steps - decay_start(steps, decay)))


def decay_start(steps: int, decay: float) -> int:
    """The first step of the decay of a `wsd` schedule."""
    return steps - round(steps * decay)


class MasterAdamW:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) whose weights are fp32.

    Takes a model in fp32, keeps its weights as masters, and turns the model itself to `dtype`.
    Where that is fp32, the model's own parameters are the masters.
    """

    def __init__(self, model: PreTrainedModel, weight_decay: float, dtype: torch.dtype) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        assert all(p.dtype == torch.float32 for _, p in named), "masters begin as fp32"
        self.names = [name for name, _ in named]
        self._params = [p for _, p in named]
        self._shared = dtype == torch.float32
        self.masters = (
            self._params
            if self._shared
            else [p.detach().clone().requires_grad_() for p in self._params]
        )
        nn.Module.to(model, dtype)
        # Norms (vectors) and embeddings are scales and directions; pulling them to zero hurts.
        decayed = [
            master
            for name, master in zip(self.names, self.masters, strict=True)
            if master.ndim >= 2 and "embed" not in name and "lm_head" not in name
        ]
        in_decayed = {id(master) for master in decayed}
        rest = [master for master in self.masters if id(master) not in in_decayed]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": rest},
        ]
        self._adamw = torch.optim.AdamW(
            groups,
            betas=BETAS,
            eps=EPS,
            weight_decay=0.0,
            fused=True,
        )

    def accumulate(self) -> None:
        """Move the gradients of a micro-batch into the fp32 sums."""
        if self._shared:
            return
        for param, master in zip(self._params, self.masters, strict=True):
            if param.grad is None:
                continue
            if master.grad is None:
                master.grad = param.grad.float()
            else:
                master.grad += param.grad
            param.grad = None

    def gradient_norm(self, clip: float) -> float:
        """The norm over all gradients; they are scaled down to `clip` where it is larger."""
        grads = [master.grad for master in self.masters if master.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.masters, clip, norm)
        return float(norm)

    def step(self, lr: float) -> None:
        """Update the masters, and the model's parameters from them."""
        for group in self._adamw.param_groups:
            group["lr"] = lr
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        self._publish()

    def _publish(self) -> None:
        if not self._shared:
            torch._foreach_copy_([p.data for p in self._params], [m.data for m in self.masters])

    def weights(self) -> dict[str, Tensor]:
        """The fp32 weights, by parameter name."""
        return {n: m.detach() for n, m in zip(self.names, self.masters, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """The moments and step counts, by parameter name."""
        return {
            f"{name}.{key}": value
            for name, master in zip(self.names, self.masters, strict=True)
            for key, value in self._adamw.state[master].items()
        }

    def load(self, weights: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        """Take weights and state as `weights()` and `state()` gave them."""
        with torch.no_grad():
            for name, master in zip(self.names, self.masters, strict=True):
                master.copy_(weights[name])
                self._adamw.state[master] = {
                    key: state[f"{name}.{key}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self._publish()
