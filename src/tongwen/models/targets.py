"""Which layers of a model an adapter changes, by the names that the model gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn
from transformers import PreTrainedModel

from tongwen.errors import ConfigError
from tongwen.models.quantized import QuantLinear

ALL_LINEAR = "all-linear"


def linear_names(model: PreTrainedModel) -> list[str]:
    """All linear layers but the output head, in the order of the model."""
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | QuantLinear) and module is not head
    ]


def target_names(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """The linear layers that are meant: by the end of their names, or all of them."""
    linear = linear_names(model)
    if ALL_LINEAR in targets:
        return linear
    for target in targets:
        if not any(ends_with(name, target) for name in linear):
            raise ConfigError(
                f"the model has no linear layer named `{target}`",
                f"it has {_ends(linear)}; `{ALL_LINEAR}` takes them all",
            )
    return [name for name in linear if any(ends_with(name, target) for target in targets)]


def module_names(model: PreTrainedModel, wanted: Sequence[str]) -> list[str]:
    """The modules with weights that are meant, by the end of their names.

    Where the output head is tied to the embeddings, each means both: they are one matrix.
    """
    having = [
        name for name, module in model.named_modules() if list(module.parameters(recurse=False))
    ]
    for one in wanted:
        if not any(ends_with(name, one) for name in having):
            raise ConfigError(
                f"the model has no layer with weights named `{one}`", f"it has {_ends(having)}"
            )
    found = {name for name in having if any(ends_with(name, one) for one in wanted)}
    ends = embedding_names(model)
    if len(ends) == 2 and found & set(ends) and tied(model):
        found |= set(ends)
    return [name for name in having if name in found]


def embedding_names(model: PreTrainedModel) -> list[str]:
    """The names of the input embeddings and of the output head."""
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if any(module is m for m in modules)]


def tied(model: PreTrainedModel) -> bool:
    """Whether input embeddings and output head are one matrix."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    return head is not None and head.weight is embeddings.weight


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The transformer layers of a model, first to last."""
    return next(m for m in model.base_model.modules() if isinstance(m, nn.ModuleList))


def ends_with(name: str, end: str) -> bool:
    """Whether a module's name ends in these parts."""
    return name == end or name.endswith(f".{end}")


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _ends(names: Iterable[str]) -> str:
    return ", ".join(f"`{end}`" for end in dict.fromkeys(n.rpartition(".")[2] for n in names))
