"""What a forward pass keeps for the backward pass: one table for each way of computing.

    fast     our decoder layer (`models/fast_layer.py`)
    packed   the library's layers with packed attention, where the fast one does not apply
    peers    the library's layers over padded rows

The tests compare the first two with what a real forward pass keeps.

Legend: e bytes of a number in the compute precision; a pair is a query and a key that are scored.
"""

from __future__ import annotations

from tongwen.models.anatomy import Anatomy, Linear
from tongwen.models.fast import HEADS_NORMED
from tongwen.models.recipe import Load, Recipe

SHARED_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
"""Matrices that take the same tensor as another one."""
JOINED = {*SHARED_INPUT, *SHARED_INPUT.values()}
"""Matrices that our fast layers multiply as one with those of the same input."""
SCORES_AT_WORST = 8
"""Bytes a pair and head, beside what is kept, while the backward pass is in plain attention."""


def layer_bytes(anatomy: Anatomy, recipe: Recipe, load: Load) -> float:
    """What one layer keeps for its backward pass, its input included."""
    e = recipe.element
    if recipe.fast(anatomy):
        # The input, queries with keys and values, what was attended to with the logarithm of each
        # head's sum, the row between the halves, and gate with up: all else is computed again.
        width = 2.0 * anatomy.hidden + 2 * anatomy.query + 2 * anatomy.key_value
        width += 2 * anatomy.intermediate + _adapters(anatomy, recipe)
        if anatomy.family in HEADS_NORMED:
            width += anatomy.query + anatomy.key_value  # as they were before
        return (e * width + 4 * anatomy.heads) * load.tokens
    # Each of two RMSNorms: its input in fp32, its inverse root, and its output if it learns.
    token = 2.0 * (4 * anatomy.hidden + 4)
    token += 2 * e * anatomy.hidden if recipe.adapter.method == "full" else 0
    token += e * (_inputs(anatomy, recipe) + _adapters(anatomy, recipe))
    token += e * 3 * anatomy.intermediate  # gate, silu(gate), up
    return token * load.tokens + _attention(anatomy, recipe, load)


def layer_work(anatomy: Anatomy, recipe: Recipe, load: Load) -> float:
    """What the backward pass of a layer takes for a moment, beside what is kept."""
    e = recipe.element
    if recipe.fast(anatomy):
        # The gated activations or the gradient of what was attended to, and three rows.
        widest = max(anatomy.intermediate, anatomy.query)
        # One more where LoRA drops some of its inputs.
        rows = widest * (1 + bool(recipe.adapter.lora_dropout)) + 3 * anatomy.hidden
        work = float(e * rows * load.tokens)
    else:
        work = 3.0 * e * anatomy.intermediate * load.tokens
    if recipe.eager:
        work += SCORES_AT_WORST * anatomy.heads * load.pairs
    if recipe.adapter.method == "qlora":
        # The largest matrix, brought back from its few bits; two of them, and both side by side,
        # where they are multiplied as one.
        copies = 4 if recipe.fast(anatomy) else 1
        work += copies * e * max(one.inputs * one.outputs for one in anatomy.linears)
    return work


def _attention(anatomy: Anatomy, recipe: Recipe, load: Load) -> float:
    """What the attention of one layer keeps."""
    e = recipe.element
    if recipe.eager:
        # Keys and values are repeated for every query head; the shares are kept in fp32 and in e.
        scores = (4 + e) * anatomy.heads * load.pairs
        return 3 * e * anatomy.query * load.laid_out + scores
    if not (recipe.compiled or recipe.card):
        # Without kernels: in fp32, documents padded to like lengths.
        both = 2 * (anatomy.query + anatomy.key_value)
        return float(4 * (both + anatomy.heads) * load.laid_out)
    # Queries, keys, values, the logarithm of each head's sum, and the output, which the matrix
    # behind it keeps where it learns.
    width = anatomy.query + 2 * anatomy.key_value
    width += 0 if recipe.learns(anatomy, "o_proj") else anatomy.query
    return float((e * width + 4 * anatomy.heads) * load.tokens)


def _inputs(anatomy: Anatomy, recipe: Recipe) -> float:
    """Widths of what matrices that learn take in, in one layer."""
    widths = {
        SHARED_INPUT.get(one.name, one.name): one.inputs * one.count
        for one in _learning(anatomy, recipe)
    }
    return sum(widths.values()) / anatomy.layers


def _adapters(anatomy: Anatomy, recipe: Recipe) -> float:
    """Widths of what LoRA keeps in one layer beside its inputs: A x, and the dropped-out x."""
    if recipe.adapter.method == "full":
        return 0.0
    width = 0.0
    for one in _learning(anatomy, recipe):
        width += recipe.adapter.lora_r * one.count
        if recipe.adapter.dora:
            width += one.outputs * one.count  # W x + B A x, before it is stretched
        if recipe.adapter.lora_dropout and not recipe.fast(anatomy):
            width += one.inputs * one.count * (1 + 1 / recipe.element)  # a copy, and a mask
    return width / anatomy.layers


def _learning(anatomy: Anatomy, recipe: Recipe) -> list[Linear]:
    return [one for one in anatomy.linears if recipe.learns(anatomy, one.name)]
