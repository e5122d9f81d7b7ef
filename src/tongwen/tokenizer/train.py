"""Train a byte-level BPE tokenizer for Chinese and English.

Every string round-trips: the 256 bytes are tokens, so there is no unknown token and no
normalisation. Merges stay inside one piece of the text, and the pieces are cut so that numbers are
read digit by digit, a newline is always a token of its own (which lets a template's header end
exactly where the content begins), and no token crosses from Hanzi into Latin letters.

The trainer is Hugging Face `tokenizers`; the result is an ordinary Hugging Face tokenizer that
carries our chat template.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tongwen.messages import CHAT_TEMPLATE, CONTROL_TOKENS

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


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer of `vocab_size` tokens: control tokens, 256 bytes, then merges.

    Fewer tokens come out where the texts hold fewer distinct merges.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _wrap(backend)


def _wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    boundary, _, turn_end = CONTROL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=boundary,
        eos_token=turn_end,
        pad_token=boundary,
        additional_special_tokens=list(CONTROL_TOKENS),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
