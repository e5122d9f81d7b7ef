"""Hidden states of a packed row: the fast path for LLaMA-shaped models on a CPU, or the plain one.

Legend: T tokens of a packed row, K kept positions, H hidden width.

Both give the same numbers: the plain path is transformers' own forward pass with packed attention,
and works for every architecture. `obstacle` says why a model takes it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tongwen.models.attention import Packing
from tongwen.models.fast_layer import KeptNorm, Layer, Projection, Row, decoder_layer
from tongwen.models.lora import LoraLinear
from tongwen.native import HEAD_MULTIPLE, Heads, Kernels, kernels

# Families whose layers are LLaMA's, with or without biases and norms of queries and keys.
SHAPED = ("llama", "mistral", "qwen2", "qwen3")
HEADS_NORMED = ("qwen3",)
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = ("q_norm", "k_norm")


def packed_hidden(
    model: PreTrainedModel, ids_T: Tensor, position_T: Tensor, packing: Packing, kept_K: Tensor
) -> Tensor:
    """Last hidden states at distinct positions of a row of documents, [K, H], with gradient."""
    if obstacle(model, packing) is None:
        return _fast(model, ids_T, position_T, packing, kept_K)
    output = model.base_model(
        input_ids=ids_T[None], position_ids=position_T[None], packing=packing, use_cache=False
    )
    hidden_TH: Tensor = output.last_hidden_state[0]
    return hidden_TH.index_select(0, kept_K)


def obstacle(model: PreTrainedModel, packing: Packing) -> str | None:
    """Why the fast path does not apply; None where it does."""
    config, base = model.config, cast(Any, model.base_model)
    if config.model_type not in SHAPED:
        return f"{config.model_type} models have layers of their own"
    if model.device.type != "cpu" or model.dtype not in (torch.float32, torch.bfloat16):
        return f"{model.dtype} on {model.device.type} has no kernels"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    if _head_width(config) % HEAD_MULTIPLE:
        return f"its heads are {_head_width(config)} wide, not a multiple of {HEAD_MULTIPLE}"
    if model.training and config.attention_dropout:
        return "its attention has dropout"
    window = _window(config)
    if window is not None and packing.longest > window:
        return f"a document is longer than its attention window of {window}"
    if _hooked(base):
        return "a hook watches its forward pass"
    for layer in base.layers:
        parts = set(dict(layer.self_attn.named_children()))
        if parts != ATTENTION.union(HEAD_NORMS if config.model_type in HEADS_NORMED else ()):
            return "its attention has other parts than those of its family"
        for module in (layer, layer.self_attn, layer.mlp, *_linears(layer)):
            if (reason := _unusual(module, model.dtype)) is not None:
                return reason
    return None if kernels() is not None else "the kernels cannot be compiled"


def _unusual(module: nn.Module, dtype: torch.dtype) -> str | None:
    """What a layer or one of its linear modules does beside what the fast path computes."""
    if _hooked(module):
        return "a hook watches its layers"
    if isinstance(module, LoraLinear):
        if module.magnitude is not None:
            return "its adapters are DoRA's"
        return _unusual(module.base, dtype)
    if type(module) is nn.Linear:
        return None if module.weight.dtype == dtype else "its weights differ in precision"
    return None


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _fast(
    model: PreTrainedModel, ids_T: Tensor, position_T: Tensor, packing: Packing, kept_K: Tensor
) -> Tensor:
    base: Any = model.base_model
    row = _row(model, position_T, packing)
    x_TH = base.embed_tokens(ids_T)
    for layer in base.layers:
        x_TH = decoder_layer(x_TH, _parts(layer, row.kernels), row)
    hidden_KH: Tensor = KeptNorm.apply(  # type: ignore[no-untyped-call]
        x_TH, kept_K, base.norm.weight, base.norm.variance_epsilon, row.kernels
    )
    return hidden_KH


def _row(model: PreTrainedModel, position_T: Tensor, packing: Packing) -> Row:
    compiled = kernels()
    assert compiled is not None
    config = model.config
    base: Any = model.base_model
    width = _head_width(config)
    heads = Heads(
        config.num_attention_heads,
        config.num_key_value_heads,
        width,
        base.layers[0].self_attn.scaling,
    )
    # In fp32 whatever the model computes in: bf16 angles are wrong by up to 1/256.
    like = torch.empty(0, dtype=torch.float32)
    cos, sin = base.rotary_emb(like, position_T[None])
    half = (cos[0, :, : width // 2].contiguous(), sin[0, :, : width // 2].contiguous())
    return Row(compiled, heads, packing.begin_M1, *half)


def _parts(layer: Any, kernels: Kernels) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        norm_in=layer.input_layernorm.weight,
        norm_mid=layer.post_attention_layernorm.weight,
        norm_heads=tuple(
            getattr(attention, name).weight for name in HEAD_NORMS if hasattr(attention, name)
        ),
        eps=layer.input_layernorm.variance_epsilon,
        qkv=Projection(kernels, attention.q_proj, attention.k_proj, attention.v_proj),
        out=Projection(kernels, attention.o_proj),
        gate_up=Projection(kernels, mlp.gate_proj, mlp.up_proj),
        down=Projection(kernels, mlp.down_proj),
        recompute=layer.gradient_checkpointing and layer.training,
    )


def _linears(layer: Any) -> tuple[nn.Module, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return (
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    )


def _head_width(config: Any) -> int:
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def _window(config: Any) -> int | None:
    """Tokens that a token attends to at most; None where it is its whole document."""
    if getattr(config, "use_sliding_window", True) is False:
        return None
    return getattr(config, "sliding_window", None)
