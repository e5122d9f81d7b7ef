"""Token by token: the one loop that generates, for one prompt or many together.

Legend: B sequences in the batch, T tokens so far, V vocabulary.

Prompts of different lengths are padded on the left; the padding is masked and has no position, so
a sequence gets the tokens that it would get alone. Sequences that have ended are taken out of the
batch as soon as they are half of it.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tongwen.engine.cache import new_cache
from tongwen.engine.protocol import Finish, Sampling
from tongwen.engine.sampling import generator, next_ids
from tongwen.models import PACKED, plain_attention


@dataclass(frozen=True, slots=True)
class Made:
    """One generated id, which prompt it continues, and why it is the last if it is."""

    prompt: int
    id: int
    finish: Finish | None


# As a decorator, inference mode holds only while the generator runs, not while its caller does.
@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    context: int,
    stop: frozenset[int],
    seeds: Sequence[int | None] | None = None,
) -> Generator[Made, None, None]:
    """Continue every prompt until a stop id, `max_new_tokens`, or the end of the context.

    All have the seed of `sampling`, if they are not given their own.
    """
    longest = max(map(len, prompts))
    assert min(map(len, prompts)) > 0, "a prompt has at least one token"
    assert longest < context, "a prompt leaves room for an answer"
    limits = [min(sampling.max_new_tokens, context - len(prompt)) for prompt in prompts]
    batch = _Batch(model, prompts, sampling, seeds or [sampling.seed] * len(prompts))
    living = set(range(len(prompts)))
    made = 0
    with _lent(model):
        while living:
            ids = batch.step()
            made += 1
            before = len(living)
            for lane, prompt in enumerate(batch.prompts):
                if prompt not in living:
                    continue
                finish = _finish(ids[lane], stop, last=made == limits[prompt])
                if finish is not None:
                    living.remove(prompt)
                yield Made(prompt, ids[lane], finish)
            if len(living) < before and len(living) * 2 <= len(batch.prompts):
                batch.keep(living)


def _finish(number: int, stop: frozenset[int], *, last: bool) -> Finish | None:
    if number in stop:
        return "stop"
    return "length" if last else None


class _Batch:
    """The tensors of the sequences that are being continued; lane b belongs to `prompts[b]`."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int | None],
    ) -> None:
        self._model, self._sampling = model, sampling
        self.prompts = list(range(len(prompts)))
        width = max(map(len, prompts))
        rows = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        real = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._ids_BT = torch.tensor(rows, device=model.device)
        self._real_BT = torch.tensor(real, device=model.device)
        self._position_BT = (self._real_BT.cumsum(-1) - 1).clamp(min=0)
        self._cache = new_cache(model)
        self._sources = [generator(seed) for seed in seeds]
        self._padded = bool((self._real_BT == 0).any())
        self._seen_BV: Tensor | None = None
        if sampling.repetition_penalty != 1.0:
            shape = (len(prompts), model.config.vocab_size)
            self._seen_BV = torch.zeros(shape, dtype=torch.bool, device=model.device)
            for lane, prompt in enumerate(prompts):
                self._seen_BV[lane, list(prompt)] = True

    def step(self) -> list[int]:
        """The next id of every lane."""
        output = self._model(
            input_ids=self._ids_BT,
            # A mask of ones would only keep attention from its fast path.
            attention_mask=self._real_BT if self._padded else None,
            position_ids=self._position_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        next_B = next_ids(output.logits[:, -1], self._sampling, self._sources, self._seen_BV)
        if self._seen_BV is not None:
            self._seen_BV.scatter_(1, next_B[:, None], True)
        self._ids_BT = next_B[:, None]
        self._real_BT = torch.cat([self._real_BT, torch.ones_like(self._ids_BT)], dim=1)
        self._position_BT = self._position_BT[:, -1:] + 1
        numbers: list[int] = next_B.tolist()
        return numbers

    def keep(self, prompts: Collection[int]) -> None:
        """Go on with these prompts alone."""
        lanes = [lane for lane, prompt in enumerate(self.prompts) if prompt in prompts]
        index_B = torch.tensor(lanes, dtype=torch.long, device=self._ids_BT.device)
        self.prompts = [self.prompts[lane] for lane in lanes]
        self._sources = [self._sources[lane] for lane in lanes]
        self._ids_BT = self._ids_BT[index_B]
        self._real_BT = self._real_BT[index_B]
        self._padded = bool((self._real_BT == 0).any())
        self._position_BT = self._position_BT[index_B]
        self._cache.batch_select_indices(index_B)
        if self._seen_BV is not None:
            self._seen_BV = self._seen_BV[index_B]


@contextmanager
def _lent(model: PreTrainedModel) -> Iterator[None]:
    """A model that is being trained, made fit to generate and given back as it was."""
    training, packed = model.training, model.config._attn_implementation == PACKED
    model.eval()
    if packed:
        model.set_attn_implementation(plain_attention(model))
    try:
        yield
    finally:
        if packed:
            model.set_attn_implementation(PACKED)
        model.train(training)
