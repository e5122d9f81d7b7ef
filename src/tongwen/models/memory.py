"""What training keeps in memory, by kind and by phase, counted from shapes alone.

Used before a run, by `tongwen forecast`, and nowhere inside it. What a
layer keeps for its backward pass is the table of `models/activations.py`; everything else is here.

A training has several peaks, and which of them is the highest depends on its settings:

    loading       the weights as they are read, before they become what they are trained as
    forward       the activations of all layers, and the loss over them
    backward      the same when the first layer is gone through, or computed again
    gathering     the gradients of all weights, and no activations
    update        their sums in fp32 beside masters and moments

Legend: N parameters, V vocabulary, H hidden width, T tokens of a micro-batch, K trained positions,
C positions of a chunk of the loss, e bytes of a number in the compute precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tongwen.models.activations import JOINED, layer_bytes, layer_work
from tongwen.models.anatomy import Anatomy
from tongwen.models.machine import PRODUCTS_KEPT
from tongwen.models.recipe import Load, Recipe

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
"""Bits a weight in NF4 with double quantisation (Dettmers et al. 2023, arXiv:2305.14314, 3)."""
CHUNK_BYTES = 2**28
"""The most that a chunk of logits takes in the loss, as `train/loss.py` has it; twice as much where
the head learns."""
PROGRAM = 410e6
"""The process itself: Python, torch, transformers and what they load, without any tensor. It is
measured (`benchmarks/forecast.py`), as nothing in the settings says it."""
PRODUCTS, FORWARD_PRODUCTS = (15, 14), (5, 8)
"""Matrix products of a micro-batch that differ in shape, and those of adapters besides; and how
many of each are of the forward pass."""
PRODUCT_BYTES = 0.9e6
"""What oneDNN keeps of a product in bf16, compiled for its shape (measured), for as many shapes as
it is told to keep; in fp32 it keeps nothing."""
PIECES = 1.4
"""By how much that which lies in pieces grows in a long run on a processor, whose micro-batches are
of many lengths (measured)."""
CONTEXT = 0.8 * 2**30
"""The driver's context on a card, and the work space of its matrix library."""
CARD_RESERVE = 0.10
"""Share of the activations that a card's allocator holds beyond what is in use."""
PEERS_LOGITS = 12
"""Bytes a logit beside the one in the compute precision: fp32, shifted, and their logarithms."""

Bytes = dict[str, float]


@dataclass(frozen=True)
class Memory:
    """Bytes by kind, in each phase, on the device that computes."""

    phases: dict[str, Bytes]
    host: float = 0.0
    """Bytes in the memory of the host, where a card computes and they are kept off it."""

    @property
    def phase(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def kinds(self) -> Bytes:
        """What there is at the peak."""
        return {kind: size for kind, size in self.phases[self.phase].items() if size}

    @property
    def peak(self) -> float:
        """Bytes at the peak."""
        return sum(self.phases[self.phase].values())


def training_memory(anatomy: Anatomy, recipe: Recipe, load: Load) -> Memory:
    """The memory of a training; of one process, where there are several."""
    return (_peers if recipe.way == "peers" else _ours)(anatomy, recipe, load)


def _ours(anatomy: Anatomy, recipe: Recipe, load: Load) -> Memory:
    e, learning = recipe.element, recipe.trainable(anatomy)
    parts = recipe.processes if recipe.shard else 1
    weights = _weights(anatomy, recipe)
    # In fp32 the weights themselves learn, and gradients are summed where they arise.
    masters = 4.0 * learning / parts * (e != 4)
    arising = e * learning * (e != 4)
    gradients = 4.0 * learning / parts
    before = gradients * (recipe.micro_batches > 1)
    state = masters + recipe.moments(anatomy) / parts + 4.0 * learning * recipe.averaged / parts
    away = recipe.offload and recipe.card
    fixed: Bytes = {
        "program": CONTEXT if recipe.card else PROGRAM + _kernels(recipe, load),
        "weights": weights,
        "masters and moments": 0.0 if away else state,
        "logits": _logits(anatomy, recipe, load),
    }
    if recipe.optimizer == "mezo":
        return _forward_alone(anatomy, recipe, load, fixed)
    kept = layer_bytes(anatomy, recipe, load)
    inputs = e * anatomy.hidden * load.tokens
    stored = anatomy.layers * (inputs if recipe.checkpointing else kept) + inputs
    again = layer_work(anatomy, recipe, load) + kept * recipe.checkpointing
    loss = _loss(anatomy, recipe, load)
    head = e * anatomy.embedding * _head_learns(recipe)
    phases: dict[str, Bytes] = {
        "loading": {"program": fixed["program"], "weights": _loading(anatomy, recipe)},
        "forward": fixed | {"gradients": before, "activations": stored, "loss": loss},
        # The gradient of the head, and what the backward pass of the loss makes of it.
        "backward": fixed | {"gradients": before + 2 * head, "activations": stored + again},
        # A tied head and its embeddings have a gradient each, which are then added.
        "gathering": fixed
        | {
            "gradients": max(before + arising + head * anatomy.tied, gradients),
            "activations": kept,
        },
        "update": fixed | {"gradients": max(before, gradients) + arising * bool(before)},
    }
    # What a layer took and gave back, in every pass, lies in pieces between what is kept; and the
    # gradient of the head finds a new place once the state was born in its old one.
    piece = kept + layer_work(anatomy, recipe, load)
    pieces = piece * (2 if recipe.checkpointing else 1) + max(piece, min(gradients, 2 * head))
    for name in ("forward", "backward"):
        reserve = CARD_RESERVE * (stored + loss) if recipe.card else PIECES * pieces
        phases[name]["allocator"] = reserve
    return Memory(phases, state * away)


def _forward_alone(anatomy: Anatomy, recipe: Recipe, load: Load, fixed: Bytes) -> Memory:
    """Training without gradients: one layer at a time, and the direction of the largest weight."""
    layer = layer_bytes(anatomy, recipe, load) + layer_work(anatomy, recipe, load)
    learned = min(anatomy.embedding, recipe.trainable(anatomy))
    loss = _loss(anatomy, recipe, load)
    return Memory(
        {
            "loading": {"program": fixed["program"], "weights": _loading(anatomy, recipe)},
            "forward": fixed | {"activations": layer, "loss": loss},
            "update": fixed | {"gradients": 4.0 * learned},
        }
    )


def _loading(anatomy: Anatomy, recipe: Recipe) -> float:
    """The weights as they are read, and the file that they are read from, mapped."""
    full = recipe.adapter.method == "full"
    size = 4 * anatomy.parameters if full else _weights(anatomy, recipe)
    return float(size)


def _kernels(recipe: Recipe, load: Load) -> float:
    """What the matrix library keeps of the shapes that it has seen on a processor."""
    if recipe.precision == "fp32":
        return 0.0
    kinds = 1 if recipe.adapter.method == "full" else 2
    products = sum(PRODUCTS[:kinds]) * load.shapes + sum(FORWARD_PRODUCTS[:kinds]) * load.looked
    return PRODUCT_BYTES * min(PRODUCTS_KEPT, products)


def _weights(anatomy: Anatomy, recipe: Recipe) -> float:
    """The weights as they are computed with, adapters included."""
    e, method = recipe.element, recipe.adapter.method
    rest = anatomy.parameters - anatomy.matrices
    if method == "qlora":
        bits = 8.0 if recipe.adapter.quant == "int8" else NF4_BITS
        size = anatomy.matrices * bits / 8 + rest * e
    else:
        size = float(anatomy.parameters * e)
        if method == "lora" and recipe.fast(anatomy):
            # The file stays mapped, and matrices that share an input stand side by side apart.
            size += e * sum(one.parameters for one in anatomy.linears if one.name in JOINED)
    if recipe.shard:
        gathered = max(anatomy.matrices // anatomy.layers, anatomy.embedding) * e
        size = size / recipe.processes + gathered
    return size if method == "full" else size + recipe.trainable(anatomy) * e


def _loss(anatomy: Anatomy, recipe: Recipe, load: Load) -> float:
    """The hidden rows with their gradient, and the gradient of the head."""
    e, logits = recipe.element, _logits(anatomy, recipe, load)
    # The sum in fp32 and what a chunk adds to it, where there are several.
    several = load.trained * anatomy.vocabulary * e > logits
    head = anatomy.embedding * (4 + e if several else e) * _head_learns(recipe)
    return float(head + 3 * e * anatomy.hidden * load.trained)


def _logits(anatomy: Anatomy, recipe: Recipe, load: Load) -> float:
    """A chunk of logits, the gradient of which takes their place; chunks are about equal.

    Its memory is kept from one step to the next.
    """
    row = anatomy.vocabulary * recipe.element
    size = CHUNK_BYTES << _head_learns(recipe)
    chunks = max(1, -(-load.trained // max(1, size // row)))
    return float(-(-load.trained // chunks) * row)


def _head_learns(recipe: Recipe) -> bool:
    return recipe.adapter.method == "full" or "lm_head" in recipe.adapter.modules_to_save


def _peers(anatomy: Anatomy, recipe: Recipe, load: Load) -> Memory:
    """Hugging Face's Trainer, with DeepSpeed's ZeRO-2 where several processes share.

    Adapters are fp32; what is not quantised stays in the compute precision; logits are computed at
    every position, and raised to fp32, shifted and normalised in tensors of their own.
    """
    e, learning = recipe.element, recipe.trainable(anatomy)
    full = recipe.adapter.method == "full"
    parts = recipe.processes if recipe.shard else 1
    weights = _weights(anatomy, replace(recipe, shard=False))
    state = 4.0 * learning * (full and e != 4) + recipe.moments(anatomy)
    fixed = {
        "program": CONTEXT,
        "weights": weights if full else weights + (4 - e) * learning,
        "gradients": (e if full else 4.0) * learning / parts,
    }
    host = state / parts if recipe.offload else 0.0
    fixed["masters and moments"] = state / parts - host
    kept, layer = layer_bytes(anatomy, recipe, load), layer_work(anatomy, recipe, load)
    inputs = e * anatomy.hidden * load.tokens
    stored = anatomy.layers * (inputs if recipe.checkpointing else kept)
    logits = float(load.tokens * anatomy.vocabulary * (PEERS_LOGITS + e))
    reserve = 1 + CARD_RESERVE
    again = layer + kept * recipe.checkpointing
    return Memory(
        {
            "forward": fixed | {"activations": stored * reserve, "logits": logits * reserve},
            "backward": fixed | {"activations": (stored + again) * reserve},
        },
        host,
    )
