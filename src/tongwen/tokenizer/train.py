"""Train a tokenizer for Chinese and English: byte-level BPE, or SentencePiece.

Every string round-trips: the 256 bytes are tokens, so there is no unknown token and no
normalisation. (SentencePiece alone cannot tell `▁` from a blank.) Merges stay inside one piece of
the text, and the pieces are cut so that numbers are read digit by digit, a newline is always a
token of its own (which lets a template's header end exactly where the content begins), and no token
crosses from Hanzi into Latin letters.

The trainers are Hugging Face `tokenizers` and `sentencepiece`; the result is an ordinary Hugging
Face tokenizer that carries our chat template, with the same control tokens at the same ids.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tongwen.config import TokenizerKind
from tongwen.errors import ConfigError
from tongwen.messages import CHAT_TEMPLATE, CONTROL_TOKENS
from tongwen.tokenizer.convert import piece_tokenizer
from tongwen.tokenizer.pieces import parse_pieces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PIECES = "|".join(
    [
        r"'(?:[sdmt]|ll|ve|re)(?!\p{L})",  # English contractions
        r"\n",
        r"\p{N}",  # digits one by one
        r"\p{Han}+",
        r" ?[\p{L}\p{M}&&[^\p{Han}]]+",  # words of every other script, with the blank before them
        r" ?[^\s\p{L}\p{M}\p{N}]+",  # punctuation and symbols
        r"[^\S\n]+(?!\S)",  # blanks, but the last one goes with the word that follows
        r"[^\S\n]",
    ]
)


DIGIT: Final = r"|\p{N}|"
DIGITS: Final = r"|\p{N}+|"

UNKNOWN: Final = "<unk>"
RESERVED: Final = "\u2585"
"""A block character for which SentencePiece's trainer drops the whole line."""
LONGEST: Final = 2**30


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: TokenizerKind = "bpe",
    split_digits: bool = True,
    specials: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `vocab_size` tokens: control tokens, 256 bytes, then merges or pieces.

    Control tokens are ours and then `specials`, which no text can spell. Fewer tokens come out
    where the texts hold fewer distinct merges.
    """
    control = [*CONTROL_TOKENS, *specials]
    if len(set(control)) < len(control) or not all(control):
        raise ConfigError(
            f"the control tokens {', '.join(control)} are not all different",
            f"{', '.join(CONTROL_TOKENS)} are there always; name others",
        )
    if kind == "bpe":
        return _wrap(_byte_level(texts, vocab_size, control, split_digits), control)
    model = train_pieces(texts, vocab_size, kind=kind, split_digits=split_digits, specials=specials)
    return _wrap(piece_tokenizer(parse_pieces(model)).backend_tokenizer, control)


def _byte_level(
    texts: Iterable[str], vocab_size: int, control: list[str], split_digits: bool
) -> Tokenizer:
    pattern = PIECES if split_digits else PIECES.replace(DIGIT, DIGITS)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=control,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def train_pieces(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: TokenizerKind,
    split_digits: bool = True,
    specials: Sequence[str] = (),
) -> bytes:
    """A SentencePiece `.model`, in bytes, whose ids are those of the tokenizer made from it."""
    import sentencepiece

    boundary, turn_start, turn_end = CONTROL_TOKENS
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(texts),
            model_writer=model,
            model_type=kind.removeprefix("sentencepiece-"),
            vocab_size=vocab_size,
            # Of a small text all characters but the rarest become pieces; these become bytes.
            hard_vocab_limit=False,
            byte_fallback=True,
            split_digits=split_digits,
            allow_whitespace_only_pieces=True,
            # As it is: no normal form, no blank in front, no blanks lost.
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            max_sentence_length=LONGEST,
            bos_id=0,
            bos_piece=boundary,
            pad_id=1,
            pad_piece=turn_start,
            eos_id=2,
            eos_piece=turn_end,
            unk_id=3,
            unk_piece=UNKNOWN,
            control_symbols=list(specials),
            # Threads add numbers up in another order, and another model comes out.
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"no SentencePiece model of {vocab_size:,} tokens comes of these texts: "
            f"{str(error).rpartition('] ')[2].strip() or 'they are too short'}",
            "give more text, or another --vocab-size; --kind bpe has no such limits",
        ) from error
    return model.getvalue()


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.splitlines():
            yield line.replace(RESERVED, " ")


def _wrap(backend: Tokenizer, control: list[str]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    boundary, _, turn_end = CONTROL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=boundary,
        eos_token=turn_end,
        pad_token=boundary,
        additional_special_tokens=control,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
