"""The bytes that the tokens of a vocabulary stand for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from tongwen.errors import ModelError
from tongwen.tokenizer.pieces import BLANK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTE_PIECE = re.compile("<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """The bytes of each token, by id; none for control tokens and unused ids.

    Joined, the bytes of a text's tokens are the text as the tokenizer reads it: of a SentencePiece
    vocabulary normalised, and with the blank that it puts in front. Vocabularies that do not say
    where blanks were, such as WordPiece, are a ModelError.
    """
    read = _reading(tokenizer)
    added = tokenizer.added_tokens_decoder
    control = {number for number, token in added.items() if token.special}
    control.update(tokenizer.all_special_ids)
    table = [b""] * (max(tokenizer.get_vocab().values(), default=-1) + 1)
    for token, number in tokenizer.get_vocab().items():
        if number in control:
            continue
        if number in added:
            table[number] = token.encode("utf-8")
            continue
        piece = read(token)
        if piece is None:
            raise ModelError(
                f"the tokenizer is not byte-level: its token “{token}” is not made of bytes",
                "give a byte-level BPE tokenizer, or train one with `tongwen tokenizer train`",
            )
        table[number] = piece
    return table


def byte_text(data: bytes) -> str:
    """Bytes as a byte-level vocabulary writes them."""
    letters = _byte_letters()
    return "".join(letters[byte] for byte in data)


def is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokens are written in GPT-2's stand-ins for bytes."""
    return '"type":"ByteLevel"' in _decoder(tokenizer)


def _reading(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], bytes | None]:
    """How a token of this tokenizer is turned into bytes."""
    if is_byte_level(tokenizer):
        return _of_byte_level
    decoder = _decoder(tokenizer)
    if f'"{BLANK}"' not in decoder:
        raise ModelError(
            "the tokenizer does not say which bytes its tokens stand for, nor where blanks were",
            "give a byte-level BPE or a SentencePiece tokenizer, or train one with "
            "`tongwen tokenizer train`",
        )
    return _of_pieces_and_bytes if '"type":"ByteFallback"' in decoder else _of_pieces


def _decoder(tokenizer: PreTrainedTokenizerFast) -> str:
    """How tokens become text, in the words of tokenizer.json."""
    decoder = tokenizer.backend_tokenizer.decoder
    steps = None if decoder is None else json.loads(decoder.__getstate__())
    return json.dumps(steps, ensure_ascii=False, separators=(",", ":"))


def _of_byte_level(token: str) -> bytes | None:
    alphabet = _byte_alphabet()
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:
        return None


def _of_pieces(token: str) -> bytes:
    return token.replace(BLANK, " ").encode("utf-8")


def _of_pieces_and_bytes(token: str) -> bytes:
    byte = BYTE_PIECE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else _of_pieces(token)


@cache
def _byte_letters() -> list[str]:
    """GPT-2's printable stand-ins: which character of a vocabulary means which byte."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


@cache
def _byte_alphabet() -> dict[str, int]:
    return {letter: byte for byte, letter in enumerate(_byte_letters())}
