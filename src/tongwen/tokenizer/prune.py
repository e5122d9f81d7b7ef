"""Take tokens out of a tokenizer; what the others stand for, and how texts of them are cut, stays.

Always kept are control tokens, added tokens, and what makes every text encodable: the 256 bytes,
and of a SentencePiece vocabulary the single characters as well. A token stays together with all
tokens that any merge makes it from, and the merges among those that stay remain. So no merge that
ever led to a kept token is lost, and a text whose tokens all stay is cut as before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tongwen.messages import encode_text
from tongwen.tokenizer.bytes import BYTE_PIECE, byte_text
from tongwen.tokenizer.rebuild import described, rebuilt, renumbered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Pruned:
    """A smaller tokenizer, and where its tokens came from."""

    tokenizer: PreTrainedTokenizerFast
    kept: tuple[int, ...]
    """For each new id the old one; they ascend."""


def usage(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Counter[int]:
    """How often each token is used in the texts."""
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(encode_text(tokenizer, text))
    return counts


def prune(
    tokenizer: PreTrainedTokenizerFast, wanted: Iterable[int], size: int | None = None
) -> Pruned:
    """Keep the wanted tokens, the first ones first, and what they need; at most `size` in all.

    What must be kept is kept whatever the size.
    """
    description = described(tokenizer)
    vocabulary = _vocabulary(description)
    made_of = _made_of(description, vocabulary)
    kept = _necessary(description, vocabulary)
    for number in wanted:
        needed = _closure(number, made_of) - kept
        if size is None or len(kept) + len(needed) <= size:
            kept |= needed
    old = tuple(sorted(kept))
    return Pruned(rebuilt(tokenizer, _without(description, vocabulary, old)), old)


def _vocabulary(description: dict[str, Any]) -> dict[str, int]:
    model = description["model"]
    if model["type"] == "BPE":
        found: dict[str, int] = model["vocab"]
        return found
    return {text: number for number, (text, _) in enumerate(model["vocab"])}


def _made_of(description: dict[str, Any], vocabulary: dict[str, int]) -> dict[int, tuple[int, ...]]:
    """For each merged token all tokens that some merge makes it from."""
    parts: dict[int, tuple[int, ...]] = {}
    for left, right in description["model"].get("merges", ()):
        joined = vocabulary[left + right]
        parts[joined] = (*parts.get(joined, ()), vocabulary[left], vocabulary[right])
    return parts


def _necessary(description: dict[str, Any], vocabulary: dict[str, int]) -> set[int]:
    """Ids that stay always."""
    model = description["model"]
    kept = {one["id"] for one in description["added_tokens"]}
    bytes_of = {byte_text(bytes([byte])) for byte in range(256)}
    pieces = model["type"] == "Unigram" or model.get("byte_fallback", False)
    for text, number in vocabulary.items():
        single = len(text) == 1 if pieces else text in bytes_of
        if single or BYTE_PIECE.fullmatch(text) or text == model.get("unk_token"):
            kept.add(number)
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        kept.add(model["unk_id"])
    return kept


def _closure(number: int, made_of: dict[int, tuple[int, ...]]) -> set[int]:
    found: set[int] = set()
    left = [number]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += made_of.get(one, ())
    return found


def _without(
    description: dict[str, Any], vocabulary: dict[str, int], old: Collection[int]
) -> dict[str, Any]:
    """The description with the kept ids alone, numbered from 0 in their order."""
    new = {number: place for place, number in enumerate(old)}
    model = dict(description["model"])
    if model["type"] == "BPE":
        model["vocab"] = {text: new[one] for text, one in vocabulary.items() if one in new}
        model["merges"] = [
            (left, right)
            for left, right in model["merges"]
            if {left, right, left + right} <= model["vocab"].keys()
        ]
    else:
        model["vocab"] = [model["vocab"][number] for number in old]
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
    return {
        **description,
        "model": model,
        "added_tokens": [{**one, "id": new[one["id"]]} for one in description["added_tokens"]],
        "post_processor": renumbered(description["post_processor"], new),
    }
