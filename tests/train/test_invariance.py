"""The loss and the gradient of a step, however its items are laid out, cut and computed.

The reference is transformers' own eager forward pass over padded rows, with a plain cross entropy
over all positions, divided by the trained tokens of the whole step, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.data import TokenStore
from tongwen.models import PACKED, new_model
from tongwen.tokenizer import load_tokenizer
from tongwen.train.batch import Items, Whole
from tongwen.train.objective import language_model
from tongwen.train.recompute import keep_no_activations, recomputing

LOSS, GRADIENT = 1e-6, 1e-5
CHOSEN = np.arange(16)
Result = tuple[float, dict[str, Tensor]]


def new(lessons: Path) -> PreTrainedModel:
    return new_model("1m", len(load_tokenizer(lessons / "tokenizer")), 256, seed=3)


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.fixture(scope="module", params=["text", "chat"])
def items(lessons: Path, request: pytest.FixtureRequest) -> Items:
    """Items of pretraining, and of fine-tuning, which trains on some of their tokens."""
    return Items([TokenStore.open(lessons / request.param, "train")])


@pytest.fixture(scope="module")
def expected(lessons: Path, items: Items) -> Result:
    """By transformers: padded rows, eager attention, logits of every position."""
    model = new(lessons)
    model.set_attn_implementation("eager")
    longest = int(items.lengths[CHOSEN].max())
    ids_BT = torch.zeros(len(CHOSEN), longest, dtype=torch.long)
    seen_BT, label_BT = torch.zeros_like(ids_BT), torch.full_like(ids_BT, -100)
    for row, item in enumerate(CHOSEN.tolist()):
        ids, mask = torch.from_numpy(items.ids(item)), torch.from_numpy(items.mask(item).copy())
        ids_BT[row, : len(ids)], seen_BT[row, : len(ids)] = ids, 1
        label_BT[row, : len(ids)] = torch.where(mask, ids, -100)
    logits_BTV = model(input_ids=ids_BT, attention_mask=seen_BT).logits
    target_BT = label_BT[:, 1:]
    total = F.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1), target_BT.flatten(), ignore_index=-100, reduction="sum"
    )
    loss = total / (target_BT != -100).sum()
    loss.backward()
    return float(loss.detach()), gradients(model)


@contextmanager
def plain(model: PreTrainedModel) -> Iterator[None]:
    """A hook keeps the model on transformers' own forward pass."""
    hook = model.base_model.register_forward_hook(lambda *_: None)
    yield
    hook.remove()


@contextmanager
def recomputed(model: PreTrainedModel) -> Iterator[None]:
    keep_no_activations(model)
    with recomputing(model):
        yield


@contextmanager
def as_it_is(_: PreTrainedModel) -> Iterator[None]:
    yield


@contextmanager
def plain_and_recomputed(model: PreTrainedModel) -> Iterator[None]:
    with plain(model), recomputed(model):
        yield


CUTS: dict[str, list[list[int]]] = {
    "one row": [list(range(16))],
    "an item a row": [[item] for item in range(16)],
    "two halves": [list(range(8)), list(range(8, 16))],
    "unequal parts in another order": [[15, 0, 7], [3], [1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]],
}


@pytest.mark.parametrize("way", [as_it_is, plain, recomputed, plain_and_recomputed])
@pytest.mark.parametrize("cut", CUTS)
def test_nothing_depends_on_layout_cuts_or_the_way_of_computing(
    lessons: Path, items: Items, expected: Result, cut: str, way: Callable[..., object]
) -> None:
    model = new(lessons)
    model.set_attn_implementation(PACKED)
    trained = sum(items.trained(int(item)) for item in CHOSEN)
    whole = Whole(step=0, trained=trained, groups=len(CHOSEN))
    loss = 0.0
    with way(model):  # type: ignore[attr-defined]
        for part in CUTS[cut]:
            share = language_model(model, items.batch(CHOSEN[part]), whole).value
            share.backward()
            loss += float(share.detach())
    assert abs(loss - expected[0]) < LOSS
    ours = gradients(model)
    assert ours.keys() == expected[1].keys()
    assert max(float((ours[n] - expected[1][n]).abs().max()) for n in ours) < GRADIENT
