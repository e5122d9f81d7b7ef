"""Many plain texts to ids at once, as fast as this machine can and exactly as the tokenizer would.

For byte-level tokenizers the encoder is fastokens, which gives the ids of Hugging Face `tokenizers`
several times faster and without a Python object per token. It is taken only where it proves equal
on texts that are hard for a splitter; every other tokenizer is encoded by `tokenizers` itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import fastokens  # type: ignore[import-untyped]
    from tokenizers import Tokenizer

Ids: TypeAlias = npt.NDArray[np.uint32]

HARD: Final = (
    "",
    "I'll say: it's 3.14, don't\tworry…  two  blanks \n\n\n and\r\nlines   ",
    "学而时习之，不亦说乎？2024年，GPT-4和LLaMA。　全角　空格“引号”……",
    "def f(x):\n    return {'a': [1, 2, 3]}  # 注释\n\t\t\n",
    "é e\u0301 ﬁ ½ Ⅷ ٣٤ हिन्दी ไทย 한국어 ひらがな 𠀀𠀁 👨‍👩‍👧 \u200b\ufeff\u2028\x85",
    "<|im_start|>user\n<|im_end|><|endoftext|></s><s>[INST]<unk>",
    "a" * 300 + " " * 300 + "中" * 300 + "\n" * 50 + "!" * 50 + "0" * 50,
)


class BulkEncoder:
    """Encodes plain texts with one tokenizer; what spells a control token is text as well."""

    threads_run: ClassVar[bool] = False
    """Whether threads of the encoder run in this process; a fork of it would wait for them."""

    def __init__(self, plain: Tokenizer) -> None:
        self._plain = plain
        self._fast = _proven(plain)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text."""
        if self._fast is None:
            return _slowly(self._plain, texts)
        try:
            return _fast(self._fast, texts)
        except ValueError:  # its pattern engine gives up on half a million blanks in a row
            return _slowly(self._plain, texts)


def _fast(encoder: fastokens.Tokenizer, texts: Sequence[str]) -> list[Ids]:
    BulkEncoder.threads_run = True
    flat, offsets = encoder.encode_batch_flat(list(texts), split_special_tokens=True)
    ends = np.frombuffer(offsets, dtype="<u8")[1:-1].astype(np.int64)
    return np.split(np.frombuffer(flat, dtype="<u4"), ends) if texts else []


def _slowly(plain: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    encodings = plain.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


def _proven(plain: Tokenizer) -> fastokens.Tokenizer | None:
    """The fast encoder, if the tokenizer is of the kind that it is known to be exact for."""
    description = plain.to_str()
    if not _byte_level(json.loads(description)):
        return None
    import fastokens

    try:
        fast = fastokens.Tokenizer.from_json_str(description)
        pairs = zip(_fast(fast, HARD), _slowly(plain, HARD), strict=True)
        return fast if all(np.array_equal(*pair) for pair in pairs) else None
    except ValueError:  # the library lacks a part of this tokenizer
        return None


def _byte_level(description: dict[str, dict[str, object] | None]) -> bool:
    """Whether pieces of text become bytes and are joined by merges, nothing before that."""
    model, splitter = description["model"] or {}, description["pre_tokenizer"] or {}
    parts = splitter.get("pretokenizers", [splitter])
    kinds = [part.get("type") for part in parts] if isinstance(parts, list) else []
    return (
        model.get("type") == "BPE"
        and description["normalizer"] is None
        and kinds[-1:] == ["ByteLevel"]
    )
