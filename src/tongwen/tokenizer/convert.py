"""SentencePiece vocabularies as Hugging Face tokenizers that give the same ids.

SentencePiece joins the neighbours whose joined piece has the highest score, leftmost first;
Hugging Face joins the pair that stands first in a list of merges. The list is made of every way to
cut a piece into two pieces, ordered by score. Where pieces share a score, as those have that
Chinese-LLaMA-Alpaca appended, no order of pairs can say “leftmost first”: such pieces are joined in
the order of their ids, and a few texts are cut elsewhere than SentencePiece cuts them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tongwen.tokenizer.pieces import BLANK, Piece, PieceModel, PieceType

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

JOINED = (PieceType.NORMAL, PieceType.UNUSED)


def piece_tokenizer(model: PieceModel, *, add_bos: bool = False) -> PreTrainedTokenizerFast:
    """The tokenizer that cuts texts as this SentencePiece model does."""
    backend = Tokenizer(_bpe(model) if model.algorithm == "bpe" else _unigram(model))
    backend.normalizer = _normalizer(model)
    backend.pre_tokenizer = _splitter(model)
    backend.decoder = _decoder(model)
    _add_tokens(backend, model)
    return _wrap(backend, model, add_bos)


def merges_of(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Every way to join two pieces to a third, in the order in which they are joined."""
    known = {piece.text for piece in pieces if piece.type in JOINED}
    ranked = sorted(
        (number for number, piece in enumerate(pieces) if piece.type in JOINED),
        key=lambda number: (-pieces[number].score, number),
    )
    return [pair for number in ranked for pair in cuts(pieces[number].text, known)]


def cuts(text: str, known: Container[str]) -> Iterator[tuple[str, str]]:
    """Every way to cut a token into two known ones.

    The longer left side comes first: in a run of one character, that is the leftmost pair.
    """
    for place in range(len(text) - 1, 0, -1):
        if text[:place] in known and text[place:] in known:
            yield text[:place], text[place:]


def _bpe(model: PieceModel) -> models.BPE:
    vocabulary = {piece.text: number for number, piece in enumerate(model.pieces)}
    unknown = model.unknown
    return models.BPE(
        vocabulary,
        merges_of(model.pieces),
        unk_token=None if unknown is None else model.pieces[unknown].text,
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def _unigram(model: PieceModel) -> models.Unigram:
    normal = [piece.score for piece in model.pieces if piece.type == PieceType.NORMAL]
    lowest, best = min(normal, default=0.0), max(normal, default=0.0)

    def score(piece: Piece) -> float:
        if piece.type == PieceType.NORMAL:
            return piece.score
        if piece.type == PieceType.USER_DEFINED:
            # As unigram_model.cc rates them, so that they win against the pieces they consist of.
            return len(piece.text.encode()) * best - 0.1
        return lowest

    scored = [(piece.text, score(piece)) for piece in model.pieces]
    return models.Unigram(scored, model.unknown, model.byte_fallback)


def _normalizer(model: PieceModel) -> normalizers.Normalizer | None:
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_blanks:
        # SentencePiece writes blanks as ▁ before it looks at the end, not at the beginning.
        steps.append(normalizers.Replace(Regex(rf"\A +|[ {BLANK}]+\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(BLANK))
    steps.append(normalizers.Replace(" ", BLANK))
    return normalizers.Sequence(steps)


def _splitter(model: PieceModel) -> pre_tokenizers.PreTokenizer | None:
    """Cuts at places that no piece crosses: short words are found in a cache."""
    steps: list[pre_tokenizers.PreTokenizer] = []
    if not any(BLANK in piece.text.lstrip(BLANK) for piece in model.pieces):
        words = Regex(f"{BLANK}+[^{BLANK}]*|[^{BLANK}]+")
        steps.append(pre_tokenizers.Split(words, "isolated"))
    if model.algorithm == "unigram":
        # Hugging Face would find control tokens and bytes that a text spells; a cut hides them.
        reserved = [p.text for p in model.pieces if p.type not in (*JOINED, PieceType.USER_DEFINED)]
        spelled = "|".join(f"{re.escape(text[0])}(?={re.escape(text[1:])})" for text in reserved)
        steps.append(pre_tokenizers.Split(Regex(spelled), "merged_with_previous"))
    return pre_tokenizers.Sequence(steps) if steps else None


def _decoder(model: PieceModel) -> decoders.Decoder:
    steps: list[decoders.Decoder] = [decoders.Replace(BLANK, " ")]
    if model.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if model.dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1))
    return decoders.Sequence(steps)


def _add_tokens(backend: Tokenizer, model: PieceModel) -> None:
    special = (PieceType.CONTROL, PieceType.UNKNOWN)
    backend.add_special_tokens(
        [
            AddedToken(piece.text, normalized=False, special=True)
            for piece in model.pieces
            if piece.type in special
        ]
    )
    if model.algorithm == "bpe":
        backend.add_tokens(
            [
                AddedToken(piece.text, normalized=False, special=False)
                for piece in model.pieces
                if piece.type == PieceType.USER_DEFINED
            ]
        )


def _wrap(backend: Tokenizer, model: PieceModel, add_bos: bool) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    def named(number: int | None) -> str | None:
        there = number is not None and 0 <= number < len(model.pieces)
        return model.pieces[number].text if there and number is not None else None

    bos = named(model.bos)
    if add_bos and bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, model.bos)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=named(model.eos),
        unk_token=named(model.unknown),
        pad_token=named(model.pad),
        clean_up_tokenization_spaces=False,
    )
