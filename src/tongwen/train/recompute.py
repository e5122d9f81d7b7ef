"""Gradient checkpointing: activations are computed again in the backward pass (arXiv:1604.06174).

Only the input of each decoder layer is kept. A step costs a third more and holds far less; losses
and gradients are the same to the bit, since whatever is random in a layer is a function of its
place. `model.is_activation_checkpointing` says whether it is on; a path of its own through the
layers reads it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from tongwen.errors import ConfigError


def keep_no_activations(model: PreTrainedModel) -> None:
    """Turn it on."""
    if not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"{type(model).__name__} cannot compute its activations again",
            "leave out `--checkpointing`; a smaller `--micro-batch-tokens` takes less memory, too",
        )
    model.activation_checkpointing_enable({"use_reentrant": False})
    # It asks for the gradient of the embeddings, which only reentrant checkpointing needs.
    model.disable_input_require_grads()


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """A training pass; in evaluation and generation the layers keep their caches."""
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    before = [layer.training for layer in layers]
    # transformers checkpoints a layer that is in training. The flag of the layer alone is set: its
    # parts, which have no dropout of their own to turn on, are left as they are.
    for layer in layers:
        layer.training = model.is_activation_checkpointing
    try:
        yield
    finally:
        for layer, training in zip(layers, before, strict=True):
            layer.training = training
