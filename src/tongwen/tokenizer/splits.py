"""How byte-level tokenizers cut a text into words before they merge, by the name of the family.

A file of ranks or merges does not say it, and GGUF says it by a name. The patterns are those of
the families' own code: OpenAI's tiktoken, Qwen's `tokenization_qwen.py`, Meta's `tokenizer.py`, and
for falcon and mpt the `tokenizer.json` of the models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Punctuation, Sequence, Split

from tongwen.errors import ModelError

QWEN2: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K: Final = QWEN2.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K: Final = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _pattern(pattern: str) -> PreTokenizer:
    return Sequence(
        [
            Split(Regex(pattern), behavior="isolated"),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _gpt2() -> PreTokenizer:
    return ByteLevel(add_prefix_space=False)


def _falcon() -> PreTokenizer:
    return Sequence(
        [
            Punctuation("contiguous"),
            ByteLevel(add_prefix_space=False),
            Digits(individual_digits=False),
            Split(Regex("[0-9][0-9][0-9]"), behavior="isolated"),
        ]
    )


def _digits_then_gpt2() -> PreTokenizer:
    return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


SPLITS: Final[dict[str, Callable[[], PreTokenizer]]] = {
    "gpt-2": _gpt2,
    "mpt": _gpt2,
    "falcon": _falcon,
    "starcoder": _digits_then_gpt2,
    "qwen2": partial(_pattern, QWEN2),
    "llama3": partial(_pattern, CL100K),
    "cl100k": partial(_pattern, CL100K),
    "o200k": partial(_pattern, O200K),
}
"""By name."""

SAME: Final = {"llama-bpe": "llama3", "phi-2": "gpt-2", "smollm": "starcoder", "gpt-4o": "o200k"}
"""Other names that llama.cpp gives to these patterns."""


def splitter(name: str, whose: str) -> PreTokenizer:
    """The pre-tokenizer called `name`, for the file called `whose`."""
    make = SPLITS.get(SAME.get(name, name))
    if make is None:
        raise ModelError(
            f"{whose}: how it splits words, {name!r}, is not known",
            f"known are {', '.join(SPLITS)}; `--split NAME` chooses one",
        )
    return make()
