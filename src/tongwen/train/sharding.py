"""Masters that are divided among the processes: each holds its rows of every weight (FSDP2).

`torch.distributed.fsdp.fully_shard` (PyTorch FSDP, Zhao et al. 2023, arXiv:2304.11277, after stage
3 of ZeRO, Rajbhandari et al. 2020, arXiv:1910.02054) gathers the weights of one decoder layer at a
time, in the compute precision, and sums its gradients in fp32 into the rows of each process. The
masters here are those rows, as plain tensors: a rule that works element by element works on them as
it does on whole weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from tongwen.progress import say
from tongwen.train.average import PREFIX
from tongwen.train.folders import Weights
from tongwen.train.masters import Masters
from tongwen.train.objective import Loss
from tongwen.train.processes import leads, rank, world
from tongwen.train.shards import Rows, Shards

T = TypeVar("T")


class ShardedMasters(Masters):
    """fp32 masters of which this process holds some rows."""

    sharded = True

    def __init__(
        self, model: PreTrainedModel, dtype: torch.dtype, device: torch.device, *, offload: bool
    ) -> None:
        self._root = _shard(model, dtype, device, offload=offload)
        self._all: dict[str, DTensor] = {
            name: parameter
            for name, parameter in model.named_parameters()
            if isinstance(parameter, DTensor)
        }
        learning = {name: one for name, one in self._all.items() if one.requires_grad}
        self.names = list(learning)
        self._divided = list(learning.values())
        # They share memory with the parameters, so what moves them moves the model.
        self.masters = [parameter.to_local().detach() for parameter in self._divided]
        self._rows = {name: _rows(parameter) for name, parameter in self._all.items()}

    def forward(self, work: Callable[[], Loss]) -> Loss:
        """Compute a loss with the model, all processes together."""
        loss: Loss
        _, loss = self._root(work)
        return loss

    def look(self, work: Callable[[], T]) -> T:
        """Compute something with the model that has no gradient, all processes together."""
        with torch.no_grad():
            result: T = self._root(work)
        # The weights of the root stay gathered after a forward pass, for the backward pass.
        self._root.reshard()
        return result

    def reduce(self) -> None:
        """Take the sums over all processes for the gradients of the masters."""
        for parameter, master in zip(self._divided, self.masters, strict=True):
            gradient: Any = parameter.grad
            master.grad = None if gradient is None else gradient.to_local()

    def gradient_norm(self, clip: float) -> float:
        """The norm over all gradients of all processes; they are scaled down to `clip`."""
        grads = [master.grad for master in self.masters if master.grad is not None]
        square = torch.nn.utils.get_total_norm(grads).square()
        dist.all_reduce(square)
        norm = square.sqrt()
        if clip > 0:
            torch.nn.utils.clip_grads_with_norm_(self.masters, clip, norm)
        return float(norm)

    def clear(self) -> None:
        """Drop the gradients."""
        super().clear()
        for parameter in self._divided:
            parameter.grad = None

    def publish(self) -> None:
        """The model computes with the masters themselves."""

    def rows(self, tensors: Weights) -> Rows:
        """Where the rows stand that are held here: of weights, of their moments and averages."""
        names = {key: self._name(key) for key in tensors}
        return {
            key: self._rows[name]
            for key, name in names.items()
            if name is not None and tensors[key].shape == self._all[name].to_local().shape
        }

    def own(self, stored: Mapping[str, Tensor]) -> Weights:
        """The rows to hold here, of whole weights or of shards."""
        return {key: self._own(stored, key) for key in stored}

    def _own(self, stored: Mapping[str, Tensor], key: str) -> Tensor:
        name = self._name(key)
        if name is None:
            return stored[key]
        first, total = self._rows[name]
        end = first + len(self._all[name].to_local())
        if isinstance(stored, Shards):
            return stored.rows(key, first, end) if stored.total(key) == total else stored[key]
        whole = stored[key]
        return whole[first:end] if whole.shape == self._all[name].shape else whole

    def _name(self, key: str) -> str | None:
        """The weight that a tensor belongs to, if it belongs to one."""
        names = (key, key.removeprefix(PREFIX), key.rpartition(".")[0])
        return next((name for name in names if name in self._rows), None)

    @property
    def frozen(self) -> Weights:
        """The rows held here of the weights that do not learn, by parameter name."""
        names = self._all.keys() - set(self.names)
        return {name: self._all[name].to_local() for name in sorted(names)}

    def whole(self, weights: Weights) -> Weights:
        """Whole weights in the memory of the leader, one after another; the others get none."""
        gathered = {}
        for name, rows in weights.items():
            if (tensor := _gather(rows, self._rows[name][1])) is not None:
                gathered[name] = tensor
        return gathered


class _Root(nn.Module):
    """The module whose forward pass gathers what stands outside of the layers.

    Objectives, evaluation and generation go through a model in ways of their own, not by its
    forward pass alone; whatever they do happens inside this one.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Any]) -> Any:
        result = work()
        # Where there is a tensor to go back from, it must be seen.
        return (result.value, result) if isinstance(result, Loss) else result


def _shard(
    model: PreTrainedModel, dtype: torch.dtype, device: torch.device, *, offload: bool
) -> Any:
    """Divide a model, which comes to a card a layer at a time: whole it may be too large for it."""
    on_card = device.type != "cpu"
    if offload and not on_card:
        say("--offload changes nothing: the model is computed on the CPU, in whose memory it is")
    settings: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (world(),)),
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        ),
        "offload_policy": CPUOffloadPolicy() if offload and on_card else OffloadPolicy(),
    }
    # One layer after another: weights that are still in the file take no memory until their turn.
    for module in list(model.modules()):
        if isinstance(module, GradientCheckpointingLayer):
            _cast(module, dtype)
            fully_shard(module, **settings)
    _cast(model, dtype)
    root: Any = fully_shard(_Root(model), **settings)
    for module in root.modules():
        if isinstance(module, FSDPModule):
            # Losses are shares of the whole step, so gradients add up; a mean would be wrong.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
            # What it gathers into is made at the first time. That must not be in inference mode,
            # as an evaluation before the first step would be: no gradient could pass it any more.
            module.unshard()
            module.reshard()
    return root


def _cast(module: nn.Module, dtype: torch.dtype) -> None:
    """Turn whole weights to fp32 where they learn, and to the compute precision elsewhere."""
    for parameter in module.parameters():
        if parameter.is_floating_point() and not isinstance(parameter, DTensor):
            kept = torch.float32 if parameter.requires_grad else dtype
            parameter.data = parameter.data.to(kept)


def _rows(parameter: DTensor) -> tuple[int, int]:
    """The first of the rows held here, and the rows of the whole weight."""
    total = len(parameter)
    first = min(total, rank() * -(-total // world()))
    assert len(parameter.to_local()) == min(total, first + -(-total // world())) - first
    return first, total


def _gather(rows: Tensor, total: int) -> Tensor | None:
    """The whole of a weight in the leader."""
    most = -(-total // world())
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world())] if leads() else None
    dist.gather(padded, parts)
    return None if parts is None else torch.cat(parts)[:total].cpu()
