"""SentencePiece `.model` files, read and written as the protocol buffers they are.

Only the few fields that decide ids are known here (sentencepiece_model.proto of the SentencePiece
project); a field that is not known is kept byte for byte, so that a model that was read and
extended stays the model it was.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from tongwen.errors import ModelError

BLANK = "▁"
"""How a blank is written in a piece."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIGN = 1 << 63


class PieceType(IntEnum):
    """What a piece is for; the numbers are those of the format."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """One token: its text with `▁` for blanks, its score, and what it is for."""

    text: str
    score: float = 0.0
    type: PieceType = PieceType.NORMAL


@dataclass(frozen=True)
class PieceModel:
    """A SentencePiece vocabulary and what is done to a text before it is cut."""

    pieces: tuple[Piece, ...]
    """By id."""
    algorithm: str
    """`bpe` or `unigram`."""
    byte_fallback: bool = False
    """Characters without a piece become bytes, not the unknown token."""
    charsmap: bytes = field(default=b"", repr=False)
    """Precompiled rules of normalisation, such as NFKC; none for `identity`."""
    dummy_prefix: bool = True
    """A blank is put in front of every text."""
    remove_extra_blanks: bool = True
    """Blanks at both ends go, and runs of blanks become one."""
    bos: int = 1
    eos: int = 2
    pad: int = -1
    """Ids, -1 where there is none."""

    @property
    def unknown(self) -> int | None:
        """Id of the unknown token."""
        kinds = [piece.type for piece in self.pieces]
        return kinds.index(PieceType.UNKNOWN) if PieceType.UNKNOWN in kinds else None


def read_pieces(path: Path) -> PieceModel:
    """Read a SentencePiece `.model` of type BPE or unigram."""
    try:
        return parse_pieces(path.read_bytes())
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise ModelError(
            f"{path} is not a sound SentencePiece model: {error}",
            "it is damaged or cut off, or in another format; copy it again",
        ) from error


def parse_pieces(data: bytes) -> PieceModel:
    """A model from its bytes; a ValueError or IndexError where they are no sound model."""
    pieces: list[Piece] = []
    trainer: dict[int, bytes] = {}
    normalizer: dict[int, bytes] = {}
    for number, _, value in _fields(data):
        if number == 1:
            pieces.append(_piece(value))
        elif number == 2:
            trainer = {key: content for key, _, content in _fields(value)}
        elif number == 3:
            normalizer = {key: content for key, _, content in _fields(value)}
    if not pieces:
        raise ValueError("it has no pieces")
    algorithm = {1: "unigram", 2: "bpe"}.get(_integer(trainer, 3, 1))
    if algorithm is None:
        raise ValueError("its type is neither BPE nor unigram")
    if _integer(trainer, 24, 0) or not _integer(normalizer, 5, 1):
        raise ValueError("it marks blanks in a way that is not supported")
    return PieceModel(
        tuple(pieces),
        algorithm,
        byte_fallback=bool(_integer(trainer, 35, 0)),
        charsmap=normalizer.get(2, b""),
        dummy_prefix=bool(_integer(normalizer, 3, 1)),
        remove_extra_blanks=bool(_integer(normalizer, 4, 1)),
        bos=_integer(trainer, 41, 1),
        eos=_integer(trainer, 42, 2),
        pad=_integer(trainer, 43, -1),
    )


def looks_like_pieces(head: bytes) -> bool:
    """Whether a file that begins so can be a SentencePiece model: its first field is a piece."""
    try:
        number, kind, _ = next(_fields(head, whole=False))
    except (StopIteration, IndexError, ValueError):
        return False
    return (number, kind) == (1, BYTES)


def with_pieces(model: bytes, pieces: list[Piece]) -> bytes:
    """The bytes of a model with more pieces at its end.

    Protocol buffers are joined by putting one behind the other, so nothing else changes.
    """
    return model + b"".join(_encoded(1, _piece_bytes(piece)) for piece in pieces)


def _piece(data: bytes) -> Piece:
    values = {number: value for number, _, value in _fields(data)}
    score = struct.unpack("<f", values[2])[0] if 2 in values else 0.0
    return Piece(values.get(1, b"").decode("utf-8"), score, PieceType(_integer(values, 3, 1)))


def _piece_bytes(piece: Piece) -> bytes:
    score = _scalar(2, FIXED32, struct.pack("<f", piece.score))
    kind = _scalar(3, VARINT, bytes([piece.type]))
    return _encoded(1, piece.text.encode("utf-8")) + score + kind


def _fields(data: bytes, *, whole: bool = True) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire type and content of each field; a varint's content is its own bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            end = _varint(data, place)[1]
        elif kind == BYTES:
            size, place = _varint(data, place)
            end = place + size
        elif kind in (FIXED32, FIXED64):
            end = place + (4 if kind == FIXED32 else 8)
        else:
            raise ValueError(f"no field of a model is of wire type {kind}")
        if end > len(data) and whole:
            raise ValueError(f"it ends inside field {number}")
        yield number, kind, data[place:end]
        place = end


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits at `place`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number is longer than 64 bits")


def _integer(values: dict[int, bytes], number: int, default: int) -> int:
    if number not in values:
        return default
    value = _varint(values[number], 0)[0]
    return value - 2 * SIGN if value >= SIGN else value


def _encoded(number: int, content: bytes) -> bytes:
    return _number(number << 3 | BYTES) + _number(len(content)) + content


def _scalar(number: int, kind: int, content: bytes) -> bytes:
    return _number(number << 3 | kind) + content


def _number(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
