"""AdamW with moments of 8 bits (Dettmers et al. 2022, arXiv:2110.02861).

A moment is cut into blocks of 256 numbers, each divided by its largest magnitude and stored as the
nearest of 256 values. These lie densely near zero and reach over seven decades, because moments do
(dynamic tree quantisation, section 1.3 there); the second moment has no sign and twice as many
values. State takes 2.03 bytes a weight instead of 8. Weights with fewer than 4,096 numbers keep
fp32 moments. Legend: N numbers, B blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from tongwen.config import OptimizerConfig
from tongwen.train.rules import AdamW, Named, Rule, State, Together, is_decayed

BLOCK: Final = 256
SMALLEST: Final = 4096
DECADES: Final = 7
SPAN: Final = 2**20
"""Numbers that are worked on at a time; whole blocks."""
KEYS: Final = ("exp_avg", "exp_avg_sq")


def adamw8bit(named: Named, config: OptimizerConfig) -> Rule:
    """AdamW with 8-bit moments where a weight is large enough for it to pay."""
    large = {name: master for name, master in named.items() if master.numel() >= SMALLEST}
    small = {name: master for name, master in named.items() if name not in large}
    rules: list[Rule] = [BlockwiseAdamW(large, config)] if large else []
    if small:
        rules.append(AdamW(small, config))
    return Together(rules)


class BlockwiseAdamW:
    """AdamW whose moments are stored in 8 bits; only a span of them exists in fp32 at a time."""

    def __init__(self, named: Named, config: OptimizerConfig) -> None:
        self._named = named
        self._config = config
        self._steps = 0
        self._moments = {
            name: [Blocks(master, signed) for signed in (True, False)]
            for name, master in named.items()
        }

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Update the masters in place."""
        self._steps += 1
        for name, master in self._named.items():
            if master.grad is None:
                continue
            if is_decayed(name, master):
                master.mul_(1 - lr * self._config.weight_decay)
            pieces = (x.view(-1).split(SPAN) for x in (master.detach(), master.grad))
            for span, (weight_N, grad_N) in enumerate(zip(*pieces, strict=True)):
                weight_N.sub_(self._update(grad_N, span, *self._moments[name]), alpha=lr)

    def _update(self, grad_N: Tensor, span: int, mean: Blocks, square: Blocks) -> Tensor:
        """Move the moments of a span, and return how far its weights move for each unit of lr."""
        beta1, beta2 = self._config.betas
        mean_N = mean.read(span)[: len(grad_N)].lerp_(grad_N, 1 - beta1)
        square_N = square.read(span)[: len(grad_N)].mul_(beta2)
        square_N.addcmul_(grad_N, grad_N, value=1 - beta2)
        mean.write(span, mean_N)
        square.write(span, square_N)
        # Both moments began at zero, which makes them too small (Kingma & Ba, arXiv:1412.6980).
        root_N = square_N.div_(1 - beta2**self._steps).sqrt_().add_(self._config.eps)
        return mean_N.div_(1 - beta1**self._steps).div_(root_N)

    def state(self) -> State:
        """Codes and block maxima of the moments, by parameter name, and the count of steps."""
        state = {"blockwise.step": torch.tensor(float(self._steps))}
        for name, moments in self._moments.items():
            for key, moment in zip(KEYS, moments, strict=True):
                state[f"{name}.{key}"] = moment.codes_BN
                state[f"{name}.{key}_max"] = moment.largest_B
        return state

    def load(self, state: State) -> None:
        """Take what `state()` gave."""
        self._steps = int(state["blockwise.step"])
        for name, moments in self._moments.items():
            for key, moment in zip(KEYS, moments, strict=True):
                moment.codes_BN.copy_(state[f"{name}.{key}"])
                moment.largest_B.copy_(state[f"{name}.{key}_max"])


class Blocks:
    """Numbers stored in 8 bits: the largest magnitude of each block, and a code for each number."""

    def __init__(self, like: Tensor, signed: bool) -> None:
        blocks = -(-like.numel() // BLOCK)
        self._map = dynamic_map(signed, like.device)
        zero = self._map.codes(torch.zeros(1, device=like.device))
        self.codes_BN = zero.repeat(blocks, BLOCK)
        self.largest_B = torch.zeros(blocks, device=like.device)

    def read(self, span: int) -> Tensor:
        """The numbers of a span in fp32, up to the end of its last block, [N]."""
        blocks = self._blocks(span)
        code_N = self.codes_BN[blocks].view(-1).int()
        number_BN = self._map.values.index_select(0, code_N).view(-1, BLOCK)
        return number_BN.mul_(self.largest_B[blocks, None]).view(-1)

    def write(self, span: int, numbers_N: Tensor) -> None:
        """Store the values nearest to these numbers."""
        number_BN = F.pad(numbers_N, (0, -len(numbers_N) % BLOCK)).view(-1, BLOCK)
        largest_B = number_BN.abs().amax(1)
        # A block of zeros is divided by one instead.
        by_B = torch.where(largest_B > 0, largest_B, 1.0)
        code_N = self._map.codes((number_BN / by_B[:, None]).view(-1))
        self.codes_BN[self._blocks(span)] = code_N.view(-1, BLOCK)
        self.largest_B[self._blocks(span)] = largest_B

    def _blocks(self, span: int) -> slice:
        return slice(span * SPAN // BLOCK, (span + 1) * SPAN // BLOCK)


@dataclass(frozen=True)
class DynamicMap:
    """256 values in order, and how to find the one that is nearest to a number in [-1, 1]."""

    values: Tensor
    between: Tensor  # half-way from each value to the next; after the last there is none
    first: Tensor  # for the upper 16 bits of a float, the code of the lowest float that has them

    def codes(self, number_N: Tensor) -> Tensor:
        """Codes of the nearest values, uint8 [N].

        Floats with the same upper 16 bits lie between two neighbours of `between` or around one of
        them, so a table and one comparison do what a search does in twenty times their time.
        """
        upper_N = (number_N.view(torch.int32) >> 16) + 2**15
        code_N = self.first.index_select(0, upper_N)
        code_N += number_N > self.between.index_select(0, code_N)
        return code_N.to(torch.uint8)


@cache
def dynamic_map(signed: bool, device: torch.device) -> DynamicMap:
    """The map of a moment with or without a sign."""
    values = dynamic_values(signed)
    between = (values[1:] + values[:-1]) / 2
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32)
    # Bits of a negative float count upwards from zero: the lowest float has all lower bits set.
    lowest = ((upper << 16) | torch.where(upper < 0, 2**16 - 1, 0).int()).view(torch.float32)
    first = torch.bucketize(lowest.nan_to_num(), between, out_int32=True)
    padded = torch.cat([between, torch.tensor([float("inf")])])
    return DynamicMap(values.to(device), padded.to(device), first.to(device))


def dynamic_values(signed: bool) -> Tensor:
    """The 256 values of the dynamic map, in order, in [-1, 1] or [0, 1].

    In the decade below 10⁻ᵏ there are 2⁶⁻ᵏ of them (unsigned: 2⁷⁻ᵏ), the middles of equal parts of
    it; then zero, and one.
    """
    values = [0.0, 1.0]
    for decade in range(DECADES):
        parts = 2 ** (DECADES - 1 - decade) * (1 if signed else 2)
        edges = torch.linspace(0.1, 1, parts + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0**-decade
        values += middles.tolist()
        if signed:
            values += (-middles).tolist()
    return torch.tensor(sorted(values))
