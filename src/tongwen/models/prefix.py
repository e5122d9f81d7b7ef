"""Prefix tuning: keys and values that stand before every document, and learn (arXiv:2101.00190).

Each layer has P virtual tokens of its own, as PEFT has them: no words, no network that makes them,
no positions of their own; the first real token of a document is at position P. Every document of a
packed row sees them, and nothing else of the row.

Legend: P virtual tokens, H query heads, G key/value heads, D head dimension, N documents of a
bucket, L their padded length, S tokens so far, B sequences.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache, PreTrainedModel
from transformers.masking_utils import sdpa_mask

from tongwen.models.attention import Packing
from tongwen.models.draws import generator
from tongwen.models.targets import layers_of

PREFIXED = "tongwen_prefixed"
"""Attention for generation with a model that has a prefix."""


class Prefix(nn.Module):
    """The virtual tokens of one layer."""

    def __init__(self, tokens: int, heads: int, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.zeros(tokens, heads, width))
        self.values = nn.Parameter(torch.zeros(tokens, heads, width))

    def begin(self, name: str, seed: int) -> None:
        """Draw them from a normal distribution, as PEFT does."""
        for part, parameter in (("keys", self.keys), ("values", self.values)):
            source = generator(seed, f"{name}.{part}")
            parameter.data.copy_(torch.randn(parameter.shape, generator=source))

    def packed(
        self, query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None
    ) -> Tensor:
        """Attention inside each document. Query [1, H, T, D] in, [1, T, H, D] out."""
        sizes = [n * length for n, length in packing.shapes]
        layout = [
            x[0].transpose(0, 1).index_select(0, packing.row_P).split(sizes)
            for x in (query, key, value)
        ]
        outputs = []
        for shape, *parts in zip(packing.shapes, *layout, strict=True):
            q, k, v = (part.unflatten(0, shape).transpose(1, 2) for part in parts)
            outputs.append(self.attend(q, k, v, None, scaling).transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs).index_select(0, packing.place_T)[None]

    def attend(
        self,
        q_BHLD: Tensor,
        k_BGSD: Tensor,
        v_BGSD: Tensor,
        mask: Tensor | None,
        scale: float | None,
    ) -> Tensor:
        """Attention to the prefix and, causally or as `mask` [B, 1, L, S] says, to the tokens."""
        batch, _, length, _ = q_BHLD.shape
        k, v = (
            torch.cat([own.transpose(0, 1).expand(batch, -1, -1, -1), tokens], dim=2)
            for own, tokens in ((self.keys, k_BGSD), (self.values, v_BGSD))
        )
        seen = k_BGSD.shape[2]
        if mask is None:
            past = torch.ones(length, seen, dtype=torch.bool, device=k.device)
            mask = past.tril(seen - length)
        see_all = mask.new_ones(*mask.shape[:-1], len(self.keys))
        if mask.dtype != torch.bool:
            see_all = torch.zeros_like(see_all)
        return F.scaled_dot_product_attention(
            q_BHLD, k, v, attn_mask=torch.cat([see_all, mask], dim=-1), scale=scale,
            enable_gqa=q_BHLD.shape[1] != k.shape[1],
        )  # fmt: skip


def add_prefix(model: PreTrainedModel, tokens: int, seed: int) -> list[str]:
    """Give every layer of a model a prefix; the names of the attention modules that have one."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    names = attention_names(model)
    for name in names:
        prefix = Prefix(tokens, heads, width)
        prefix.begin(f"{name}.prefix", seed)
        model.get_submodule(name).prefix = prefix
    model.base_model.register_forward_pre_hook(_Shift(tokens), with_kwargs=True)
    return names


def attention_names(model: PreTrainedModel) -> list[str]:
    """The attention modules, first layer to last."""
    layers = layers_of(model)
    inside = {id(module) for module in layers.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in inside and hasattr(module, "layer_idx") and hasattr(module, "head_dim")
    ]


def plain_attention(model: PreTrainedModel) -> str:
    """The attention to generate with."""
    return PREFIXED if any(isinstance(m, Prefix) for m in model.modules()) else "sdpa"


class _Shift:
    """Moves the positions of the tokens behind the prefix."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        position = kwargs.get("position_ids")
        if position is None:
            ids = args[0] if args else kwargs["input_ids"]
            cache = cast("Cache | None", kwargs.get("past_key_values"))
            begin = 0 if cache is None else cache.get_seq_length()
            position = torch.arange(begin, begin + ids.shape[-1], device=ids.device)[None]
        return args, {**kwargs, "position_ids": position + self._tokens}


def prefixed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of a layer with a prefix. Query [B, H, L, D] in, [B, L, H, D] out."""
    prefix = cast(Prefix, module.prefix)
    return prefix.attend(query, key, value, mask, scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register(PREFIXED, prefixed_attention)
AttentionMaskInterface.register(PREFIXED, sdpa_mask)
