"""The bytes that the tokens of a byte-level vocabulary stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tongwen.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """The bytes of each token, by id; none for control tokens and unused ids."""
    alphabet = _byte_alphabet()
    control = set(tokenizer.all_special_ids)
    added = tokenizer.get_added_vocab()
    table = [b""] * len(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        if number in control:
            continue
        if token in added:
            table[number] = token.encode("utf-8")
            continue
        try:
            table[number] = bytes(alphabet[character] for character in token)
        except KeyError:
            raise ModelError(
                f"the tokenizer is not byte-level: its token “{token}” is not made of bytes",
                "give a byte-level BPE tokenizer, or train one with `tongwen tokenizer train`",
            ) from None
    return table


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins: which character of a vocabulary means which byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}
