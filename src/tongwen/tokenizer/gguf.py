"""Vocabularies in GGUF files and in the `tokenizer.bin` of llama2.c.

Of a GGUF file only the header is read; every length in it is checked against the size of the file
before anything is read or allocated (the format: ggml's docs/gguf.md).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tongwen.errors import ModelError
from tongwen.tokenizer.convert import piece_tokenizer
from tongwen.tokenizer.pieces import Piece, PieceModel, PieceType
from tongwen.tokenizer.ranks import byte_level
from tongwen.tokenizer.wordpiece import wordpiece_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAGIC: Final = b"GGUF"
SCALARS: Final = dict(enumerate("BbHhIif?", 0)) | {10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
DEEPEST: Final = 4
PREFIX: Final = "tokenizer.ggml."


def read_gguf(path: Path, split: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer in a GGUF file, of the kinds `llama`, `gpt2` and `bert`.

    `split` replaces the way of splitting words that the file of a `gpt2` kind names.
    """
    fields = gguf_header(path)
    about = {key[len(PREFIX) :]: value for key, value in fields.items() if key.startswith(PREFIX)}
    make = {"llama": _of_pieces, "gpt2": _of_bytes, "bert": _of_words}.get(about.get("model", ""))
    if make is None or not isinstance(about.get("tokens"), list):
        kind = about.get("model")
        raise ModelError(
            f"{path} has no vocabulary"
            if kind is None
            else f"{path}: the kind {kind!r} is unknown",
            "kinds that can be read: llama (SentencePiece), gpt2 (byte-level BPE), bert",
        )
    kinds = about.get("token_type") or [PieceType.NORMAL] * len(about["tokens"])
    scores = about.get("scores") or [0.0] * len(about["tokens"])
    if not len(kinds) == len(scores) == len(about["tokens"]):
        raise ModelError(f"{path}: tokens, scores and types differ in number", "it is damaged")
    pieces = tuple(
        Piece(text, score, PieceType(kind))
        for text, score, kind in zip(about["tokens"], scores, kinds, strict=True)
    )
    if len({piece.text for piece in pieces}) < len(pieces):
        raise ModelError(f"{path} has two tokens of one text", "it is damaged")
    return make(pieces, about, str(path), split)


def gguf_header(path: Path) -> dict[str, Any]:
    """The keys and values at the beginning of a GGUF file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            return _Header(file, size).fields()
        except (struct.error, ValueError, KeyError) as error:
            raise ModelError(
                f"{path} is not a sound GGUF file: {error}", "it is damaged or cut off"
            ) from error


class _Header:
    """A reader that never trusts a length."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def fields(self) -> dict[str, Any]:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise ValueError(f"its version is {version}, and 2 and 3 are known")
        self._number("Q")
        return {self._string(): self._value(self._number("I")) for _ in range(self._count(13))}

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._number(SCALARS[kind])
        if depth == DEEPEST:
            raise ValueError("arrays in arrays in arrays")
        inner = self._number("I")
        if inner in SCALARS:
            letter = SCALARS[inner]
            count = self._count(struct.calcsize(letter))
            data = self._take(count * struct.calcsize(letter))
            return list(struct.unpack(f"<{count}{letter}", data))
        return [self._value(inner, depth + 1) for _ in range(self._count(8))]

    def _string(self) -> str:
        return self._take(self._count(1)).decode("utf-8")

    def _count(self, smallest: int) -> int:
        """A number of things that each take at least `smallest` bytes."""
        count: int = self._number("Q")
        if count * smallest > self._size - self._file.tell():
            raise ValueError(f"{count:,} entries do not fit into the file")
        return count

    def _number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self._take(struct.calcsize(f"<{letter}")))[0]

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("it ends too early")
        return data


def _of_pieces(
    pieces: tuple[Piece, ...], about: Mapping[str, Any], _whose: str, _split: str | None
) -> PreTrainedTokenizerFast:
    model = PieceModel(
        pieces,
        "bpe",
        byte_fallback=any(piece.type == PieceType.BYTE for piece in pieces),
        dummy_prefix=about.get("add_space_prefix", True),
        remove_extra_blanks=about.get("remove_extra_whitespaces", False),
        bos=about.get("bos_token_id", 1),
        eos=about.get("eos_token_id", 2),
        pad=about.get("padding_token_id", -1),
    )
    return piece_tokenizer(model, add_bos=bool(about.get("add_bos_token", False)))


def _of_bytes(
    pieces: tuple[Piece, ...], about: Mapping[str, Any], whose: str, split: str | None
) -> PreTrainedTokenizerFast:
    merges = [tuple(merge.rsplit(" ", 1)) for merge in about.get("merges", [])]
    if any(len(merge) != 2 for merge in merges):
        raise ModelError(f"{whose}: a merge is not two tokens", "it is damaged")
    name = split or about.get("pre", "gpt-2")
    control = (PieceType.CONTROL, PieceType.UNKNOWN)
    special = {piece.text: place for place, piece in enumerate(pieces) if piece.type in control}
    ends = {key: about.get(f"{key}_token_id", -1) for key in ("bos", "eos")}
    named = {key: pieces[place].text for key, place in ends.items() if 0 <= place < len(pieces)}
    return byte_level(
        {piece.text: place for place, piece in enumerate(pieces)},
        [(left, right) for left, right in merges],
        split=name,
        whose=whose,
        specials=special,
        bos=named.get("bos"),
        eos=named.get("eos"),
        added=[piece.text for piece in pieces if piece.type == PieceType.USER_DEFINED],
        whole_words=name == "llama-bpe",
    )


def _of_words(
    pieces: tuple[Piece, ...], about: Mapping[str, Any], _whose: str, _split: str | None
) -> PreTrainedTokenizerFast:
    special = {
        name: pieces[place].text
        for name, key in (
            ("unk_token", "unknown_token_id"),
            ("cls_token", "cls_token_id"),
            ("sep_token", "seperator_token_id"),
            ("pad_token", "padding_token_id"),
            ("mask_token", "mask_token_id"),
        )
        if 0 <= (place := about.get(key, -1)) < len(pieces)
    }
    return wordpiece_tokenizer([piece.text for piece in pieces], special)


def read_llama2c(path: Path) -> PreTrainedTokenizerFast:
    """Read llama2.c's `tokenizer.bin`: LLaMA's kind, with the first three tokens as there."""
    data = path.read_bytes()
    pieces: list[Piece] = []
    place = 4
    try:
        while place < len(data):
            score, size = struct.unpack_from("<fI", data, place)
            place += 8
            if size > len(data) - place:
                raise ValueError(f"token {len(pieces)} does not fit into the file")
            text = data[place : place + size].decode("utf-8")
            pieces.append(_llama2c_piece(len(pieces), text, score))
            place += size
    except (struct.error, ValueError) as error:
        raise ModelError(
            f"{path} is not a tokenizer of llama2.c: {error}", "it is damaged or cut off"
        ) from error
    return piece_tokenizer(
        PieceModel(tuple(pieces), "bpe", byte_fallback=True, remove_extra_blanks=False)
    )


def _llama2c_piece(place: int, text: str, score: float) -> Piece:
    """The file has blanks for `▁`, newlines around control tokens, and no types."""
    if place < 3:
        kind = PieceType.CONTROL if place else PieceType.UNKNOWN
        return Piece(("<unk>", "<s>", "</s>")[place], score, kind)
    piece = Piece(text.replace(" ", "▁"), score)
    return replace(piece, type=PieceType.BYTE) if place < 259 else piece
