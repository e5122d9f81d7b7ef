"""A tokenizer as the description in its tokenizer.json, and a tokenizer from such a description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from tongwen.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Description = dict[str, Any]


def described(tokenizer: PreTrainedTokenizerFast) -> Description:
    """What tokenizer.json says, with every added token in the vocabulary of the model as well.

    Without that, the library gives added tokens new ids where the vocabulary grows or shrinks.
    Only BPE and unigram can be described so; another kind is a ModelError.
    """
    description: Description = json.loads(tokenizer.backend_tokenizer.to_str())
    model = description["model"]
    if model["type"] == "BPE":
        model["vocab"] |= {one["content"]: one["id"] for one in description["added_tokens"]}
        # Since 0.20 a pair; before, a string with a blank.
        model["merges"] = [
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge)
            for merge in model["merges"]
        ]
    elif model["type"] == "Unigram":
        known = {text for text, _ in model["vocab"]}
        later = [one for one in description["added_tokens"] if one["content"] not in known]
        for one in sorted(later, key=lambda one: one["id"]):
            assert one["id"] == len(model["vocab"]), "added tokens follow the vocabulary"
            model["vocab"].append([one["content"], min(score for _, score in model["vocab"])])
    else:
        raise ModelError(
            f"the vocabulary is of the kind {model['type']}, not BPE or unigram",
            "its tokens cannot be added to or taken from",
        )
    return description


def rebuilt(
    tokenizer: PreTrainedTokenizerFast, description: Description
) -> PreTrainedTokenizerFast:
    """The tokenizer with another description and the same control tokens and template."""
    from transformers import PreTrainedTokenizerFast

    special = {one["content"] for one in description["added_tokens"] if one["special"]}
    named = dict(tokenizer.special_tokens_map)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(description, ensure_ascii=False)),
        **{role: token for role, token in named.items() if isinstance(token, str)},
        additional_special_tokens=sorted(
            special & set(tokenizer.all_special_tokens), key=tokenizer.convert_tokens_to_ids
        ),
        chat_template=tokenizer.chat_template,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        clean_up_tokenization_spaces=False,
    )


def renumbered(processor: Any, new: Mapping[int, int]) -> Any:
    """A post-processor's description with the ids that it names replaced."""
    if isinstance(processor, dict):
        return {
            key: [new[number] for number in value]
            if key == "ids" and isinstance(value, list)
            else [value[0], new[value[1]]]
            if key in ("sep", "cls")
            else renumbered(value, new)
            for key, value in processor.items()
        }
    if isinstance(processor, list):
        return [renumbered(one, new) for one in processor]
    return processor
