"""Give a model another vocabulary: rows of its embeddings and its output head added or taken out.

Legend: V rows, H hidden width, N new rows.

The new rows decide where training begins. A row of zeros or noise makes the new tokens nearly as
likely as any other, and the loss jumps; the mean of all rows bounds the jump (Hewitt 2021,
“Initializing New Word Embeddings for Pretrained Language Models”); the mean of the old tokens that
spelled the new one keeps what the model knew about it (Yao et al. 2021, arXiv:2106.13474).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tongwen.config import EmbeddingInit
from tongwen.errors import ModelError

SPREAD = 1e-5
"""Scale of the covariance for `normal`, as in Hewitt's code."""


def rows(model: PreTrainedModel) -> int:
    """Rows of the input embeddings, which may be more than the tokenizer has tokens."""
    return len(_weight(model.get_input_embeddings()))


def grow(
    model: PreTrainedModel,
    first: int,
    spelled: Sequence[Sequence[int]],
    init: EmbeddingInit,
    seed: int,
    pad_to: int = 1,
) -> None:
    """Fill the rows from `first` on, one for each entry of `spelled`, the old ids it stood for.

    Rows that padded the old vocabulary are used up first. The number of rows becomes a multiple of
    `pad_to`, and never smaller than it was; rows that only pad hold the mean. Means are taken over
    the rows below `first`, those of real tokens.
    """
    _refuse_bias(model)
    if first > rows(model):
        raise ModelError(
            f"the tokenizer has {first:,} tokens, the model only {rows(model):,} rows",
            "they do not belong together; give the tokenizer of this model",
        )
    wanted = max(rows(model), math.ceil((first + len(spelled)) / pad_to) * pad_to)
    for place, weight_VH in enumerate(_weights(model)):
        # Each matrix has its own numbers, and the same ones whatever else is random.
        generator = torch.Generator().manual_seed(2 * seed + place)
        new_VH = weight_VH.new_empty(wanted, weight_VH.shape[1])
        new_VH[:first] = weight_VH[:first]
        mean_H = weight_VH[:first].float().mean(0)
        new_VH[first:] = mean_H.to(new_VH.dtype)
        added_NH = _initial(weight_VH[:first].float(), mean_H, spelled, init, generator, model)
        new_VH[first : first + len(spelled)] = added_NH.to(new_VH.dtype)
        _replace(model, place, new_VH)
    _resized(model, wanted)


def shrink(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep these rows alone, in this order."""
    _refuse_bias(model)
    if max(kept) >= rows(model):
        raise ModelError(
            f"the tokenizer has the id {max(kept):,}, the model only {rows(model):,} rows",
            "they do not belong together; give the tokenizer of this model",
        )
    chosen = torch.tensor(kept)
    for place, weight_VH in enumerate(_weights(model)):
        _replace(model, place, weight_VH[chosen].clone())
    _resized(model, len(kept))


def _initial(
    old_VH: Tensor,
    mean_H: Tensor,
    spelled: Sequence[Sequence[int]],
    init: EmbeddingInit,
    generator: torch.Generator,
    model: PreTrainedModel,
) -> Tensor:
    shape = len(spelled), old_VH.shape[1]
    if init == "mean":
        return mean_H.expand(shape)
    if init == "subtokens":
        means = [old_VH[list(ids)].mean(0) if ids else mean_H for ids in spelled]
        return torch.stack(means) if means else old_VH.new_empty(shape)
    noise_NH = torch.randn(shape, generator=generator)
    if init == "random":
        return noise_NH * float(getattr(model.config, "initializer_range", 0.02))
    # Values drawn as mean + noise @ deviations / √V have the covariance of the rows, whatever the
    # rank of that matrix.
    noise_NV = torch.randn(len(spelled), len(old_VH), generator=generator)
    return mean_H + math.sqrt(SPREAD / len(old_VH)) * noise_NV @ (old_VH - mean_H)


def _weights(model: PreTrainedModel) -> list[Tensor]:
    """The input embeddings, and the output head where it is a matrix of its own."""
    embeddings = _weight(model.get_input_embeddings())
    head = _weight(model.get_output_embeddings())
    return [embeddings.data] if head is embeddings else [embeddings.data, head.data]


def _replace(model: PreTrainedModel, place: int, weight_VH: Tensor) -> None:
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = _weight(embeddings) is _weight(head)
    parameter = nn.Parameter(weight_VH)
    if place == 0:
        embeddings.weight = parameter
    if place == 1 or tied:
        head.weight = parameter


def _resized(model: PreTrainedModel, count: int) -> None:
    """Make the modules and the configuration say how many rows there are."""
    embeddings = cast(nn.Embedding, model.get_input_embeddings())
    embeddings.num_embeddings = count
    if embeddings.padding_idx is not None and embeddings.padding_idx >= count:
        embeddings.padding_idx = None
    cast(nn.Linear, model.get_output_embeddings()).out_features = count
    model.config.get_text_config().vocab_size = count
    if hasattr(model, "vocab_size"):
        model.vocab_size = count


def _refuse_bias(model: PreTrainedModel) -> None:
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ModelError(
            "the output head of this model is not a plain matrix",
            "only models of LLaMA's shape can be given another vocabulary",
        )


def _weight(module: nn.Module | None) -> nn.Parameter:
    return cast(nn.Parameter, cast(nn.Module, module).weight)
