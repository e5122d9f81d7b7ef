"""Byte-level vocabularies in the formats of OpenAI: tiktoken ranks, and GPT-2's two files.

tiktoken joins the neighbours whose joined bytes have the lowest rank, and looks a whole word up
before it joins anything; Hugging Face has `ignore_merges` for the second, and the first becomes a
list of merges: a token is the join of the two parts into which the tokens before it cut it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokenizers import AddedToken, Tokenizer, decoders, models

from tongwen.errors import ModelError
from tongwen.tokenizer.bytes import byte_text
from tongwen.tokenizer.splits import splitter

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Merges = list[tuple[str, str]]

BOUNDARY: Final = "<|endoftext|>"
LLAMA3_SPECIALS: Final = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 248)),
)
"""Ids 128000 to 128255 of Llama 3.1."""
QWEN_SPECIALS: Final = (
    BOUNDARY,
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{number}|>" for number in range(205)),
)
"""Ids 151643 to 151850 of Qwen."""
FAMILIES: Final[Mapping[int, tuple[str, tuple[str, ...]]]] = {
    50256: ("gpt-2", (BOUNDARY,)),
    100256: ("cl100k", ()),
    128000: ("llama3", LLAMA3_SPECIALS),
    151643: ("qwen2", QWEN_SPECIALS),
    199998: ("o200k", ()),
}
"""Known files of ranks, by the number of ranks: how they split, and the tokens that follow."""


def looks_like_ranks(head: bytes) -> bool:
    """Whether a file that begins so holds lines of base64 and a number."""
    first = head.partition(b"\n")[0].split()
    return len(first) == 2 and first[1].isdigit() and _decoded(first[0]) is not None


def read_ranks(path: Path, split: str | None = None) -> PreTrainedTokenizerFast:
    """Read tiktoken ranks; of a family that is not known, `split` must name the pattern."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        parts = line.split()
        token = _decoded(parts[0]) if len(parts) == 2 and parts[1].isdigit() else None
        if parts and token is None:
            raise ModelError(
                f"{path}:{number} is not a line of base64 and a rank", "the file is damaged"
            )
        if token is not None:
            ranks[token] = int(parts[1])
    family, specials = FAMILIES.get(len(ranks), (None, ()))
    name = split or family
    if name is None:
        raise ModelError(
            f"{path} has {len(ranks):,} ranks, of no family that is known",
            "say how it splits words, for example `--split cl100k`",
        )
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ModelError(f"the ranks in {path} are not 0 to {len(ranks) - 1:,}", "it is damaged")
    vocabulary = {byte_text(token): rank for token, rank in ranks.items()}
    return byte_level(
        vocabulary,
        merges_of_ranks(ranks),
        split=name,
        whose=str(path),
        specials={token: len(ranks) + place for place, token in enumerate(specials)},
        bos="<|begin_of_text|>" if specials is LLAMA3_SPECIALS else None,
        eos="<|end_of_text|>" if specials is LLAMA3_SPECIALS else next(iter(specials), None),
        whole_words=True,
    )


def read_pair(encoder: Path, merges: Path, split: str | None = None) -> PreTrainedTokenizerFast:
    """Read `encoder.json` and `vocab.bpe`, or `vocab.json` and `merges.txt`, of GPT-2's kind."""
    try:
        vocabulary = json.loads(encoder.read_text(encoding="utf-8"))
        assert_vocabulary(vocabulary)
        lines = merges.read_text(encoding="utf-8").splitlines()
        pairs = [_pair(line) for line in lines if line.strip() and not line.startswith("#version")]
    except ValueError as error:
        raise ModelError(
            f"{encoder} and {merges.name} are no vocabulary and merges: {error}",
            "they are damaged; copy them again",
        ) from error
    specials = {BOUNDARY: vocabulary[BOUNDARY]} if BOUNDARY in vocabulary else {}
    return byte_level(
        vocabulary,
        pairs,
        split=split or "gpt-2",
        whose=str(encoder),
        specials=specials,
        bos=next(iter(specials), None),
        eos=next(iter(specials), None),
    )


def byte_level(
    vocabulary: Mapping[str, int],
    merges: Merges,
    *,
    split: str,
    whose: str,
    specials: Mapping[str, int],
    bos: str | None = None,
    eos: str | None = None,
    added: Sequence[str] = (),
    whole_words: bool = False,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; `specials` are control tokens, with their ids."""
    from transformers import PreTrainedTokenizerFast

    everything = {**vocabulary, **specials}
    try:
        model = models.BPE(everything, merges, ignore_merges=whole_words)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{whose}: {error}", "its vocabulary and merges do not fit") from error
    backend = Tokenizer(model)
    backend.pre_tokenizer = splitter(split, whose)
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens([AddedToken(token, normalized=False) for token in added])
    backend.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in specials]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )


def merges_of_ranks(ranks: Mapping[bytes, int]) -> Merges:
    """The merge that makes each token of more than one byte, in the order of the ranks."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = _cut(token, ranks, rank) if len(token) > 1 else []
        # Of a token that nothing joins, there are more parts; it is found as a whole word only.
        if len(parts) == 2:
            merges.append((byte_text(parts[0]), byte_text(parts[1])))
    return merges


def _cut(token: bytes, ranks: Mapping[bytes, int], below: int) -> list[bytes]:
    """The parts into which the tokens of ranks less than `below` join the bytes of `token`."""
    parts = [token[place : place + 1] for place in range(len(token))]
    while True:
        best, place = below, -1
        for number in range(len(parts) - 1):
            rank = ranks.get(parts[number] + parts[number + 1], below)
            if rank < best:
                best, place = rank, number
        if place < 0:
            return parts
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def assert_vocabulary(value: object) -> None:
    """A JSON object of tokens and ids; anything else is a ValueError."""
    if not isinstance(value, dict) or not all(isinstance(one, int) for one in value.values()):
        raise ValueError("the vocabulary is not an object of tokens and ids")


def _pair(line: str) -> tuple[str, str]:
    left, blank, right = line.partition(" ")
    if not (left and blank and right) or " " in right:
        raise ValueError(f"{line!r} is not two tokens")
    return left, right


def _decoded(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
