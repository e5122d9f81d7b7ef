"""BERT's WordPiece vocabularies, as GGUF files hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from tongwen.tokenizer.pieces import BLANK

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def wordpiece_tokenizer(
    tokens: Sequence[str], special: Mapping[str, str]
) -> PreTrainedTokenizerFast:
    """A tokenizer that lowers the case and puts every Hanzi into a word of its own.

    llama.cpp writes `▁word` and `part` where BERT writes `word` and `##part`.
    """
    from transformers import PreTrainedTokenizerFast

    control = set(special.values())
    vocabulary = {_as_bert(token, control): place for place, token in enumerate(tokens)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token=special.get("unk_token", "[UNK]")))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in special.values()]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **special
    )


def _as_bert(token: str, control: set[str]) -> str:
    if token in control or (token.startswith("[") and token.endswith("]")):
        return token
    return token[len(BLANK) :] if token.startswith(BLANK) else f"##{token}"
