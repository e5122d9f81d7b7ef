"""Keys and values of the tokens so far, in buffers with room for more.

Legend: B sequences, H heads, T tokens so far, D head dimension.

transformers' own growing cache is copied whole for every token: with a hundred sequences on a CPU
that took two thirds of the time. Here a copy is made when a buffer is full, and then it is half as
large again. Layers of other kinds, such as sliding windows, stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

LEAST_ROOM = 64


def new_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache for a model."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_RoomyLayer() if type(one) is DynamicLayer else one for one in cache.layers]
    return cache


class _RoomyLayer(DynamicLayer):
    """One layer's keys and values [B, H, T, D], which are the begun part of its buffers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the new tokens; the keys and values of all."""
        used = self.get_seq_length()
        need = used + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._buffers is None or self._buffers[0].shape[-2] < need:
            room = need + max(LEAST_ROOM, need // 2)
            old = (self.keys, self.values)
            self._buffers = (_buffer(key_states, room), _buffer(value_states, room))
            if used:
                for buffer, tensor in zip(self._buffers, old, strict=True):
                    assert tensor is not None, "a layer in use has keys and values"
                    buffer[:, :, :used] = tensor
        keys, values = self._buffers
        keys[:, :, used:need] = key_states
        values[:, :, used:need] = value_states
        self.keys, self.values = keys[:, :, :need], values[:, :, :need]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences alone."""
        super().batch_select_indices(indices)
        self._buffers = None


def _buffer(like_BHTD: Tensor, room: int) -> Tensor:
    sequences, heads, _, width = like_BHTD.shape
    return torch.empty(
        (sequences, heads, room, width), dtype=like_BHTD.dtype, device=like_BHTD.device
    )
