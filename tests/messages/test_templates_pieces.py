"""Masks in the manner of SentencePiece: ▁ for blanks, one put in front, bytes for rare signs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tongwen.messages import Conversation, Message, render

TEMPLATES = Path(__file__).parent / "templates"
TALK = Conversation(
    (
        Message("user", "Hello 🙂"),
        Message("assistant", "你好！𠀀"),
        Message("user", "how"),
        Message("assistant", "Hello there\nyou"),
    )
)
END = "⟦▁⟧ ⟦</s>⟧"
RARE = "⟦<0xF0>⟧ ⟦<0xA0>⟧ ⟦<0x80>⟧ ⟦<0x80>⟧"


@pytest.mark.parametrize("first", ["normalised", "pre-tokenised"])
def test_llama_2(first: str) -> None:
    """The blank in front of an answer is one token with its first word, and is trained with it."""
    assert marked("llama-2", first).endswith(
        f"▁[/INST] ⟦▁你好！⟧ {RARE} {END} <s> "
        + ("▁[INST]" if first == "normalised" else "[ INST]")
        + f" ▁how ▁[/INST] ⟦▁Hello⟧ ⟦▁there⟧ ⟦<0x0A>⟧ ⟦you⟧ {END}"
    )


@pytest.mark.parametrize("first", ["normalised", "pre-tokenised"])
def test_mistral(first: str) -> None:
    """No blank stands between the head and the words; the one behind the end is context."""
    shown = marked("mistral-v0.1", first)
    assert f"▁[/INST] ⟦你⟧ ⟦好！⟧ {RARE} ⟦</s>⟧ ▁" in shown
    assert "▁[/INST] ⟦Hello⟧ ⟦▁there⟧ ⟦<0x0A>⟧ ⟦you⟧ ⟦</s>⟧ ▁" in shown


def test_texts_that_a_tokenizer_composes(of_family: Any) -> None:
    """Where the bytes of the tokens are not those of the text, offsets say where answers are."""
    plain = of_family("qwen-2.5")
    model = json.loads(plain.backend_tokenizer.to_str())
    model["normalizer"] = {"type": "NFC"}
    composing = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(model)),
        eos_token="<|im_end|>",
        chat_template=plain.chat_template,
    )
    for word in ("caf\u00e9 \u4e2d", "cafe\u0301 \u4e2d"):
        said = Conversation((Message("user", word), Message("assistant", word)))
        rendered = render(said, composing)
        dicts = [{"role": str(one.role), "content": one.content} for one in said.messages]
        assert rendered.ids == composing.apply_chat_template(dicts, return_dict=False)
        pairs = zip(rendered.ids, rendered.mask, strict=True)
        trained = [number for number, carries in pairs if carries]
        assert composing.decode(trained) == "caf\u00e9 \u4e2d<|im_end|>"


def marked(family: str, first: str) -> str:
    """The tokens, with ⟦⟧ around those that are trained; ids are those of transformers."""
    tokenizer = pieces_tokenizer(first, (TEMPLATES / f"{family}.jinja").read_text("utf-8"))
    rendered = render(TALK, tokenizer)
    dicts = [{"role": str(one.role), "content": one.content} for one in TALK.messages]
    assert rendered.ids == tokenizer.apply_chat_template(dicts, return_dict=False)
    tokens = tokenizer.convert_ids_to_tokens(rendered.ids)
    pairs = zip(tokens, rendered.mask, strict=True)
    return " ".join(f"⟦{token}⟧" if carries else token for token, carries in pairs)


def pieces_tokenizer(first: str, template: str) -> PreTrainedTokenizerFast:
    """A small vocabulary; the first blank comes from the normaliser, or before the splitter."""
    scheme = "always" if first == "normalised" else "first"
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    control = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*control, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    texts = ["Hello there, how are you? [INST] [/INST] you say hello", "你好！我很好 用户"]
    backend.train_from_iterator(texts * 5, trainer)
    model = json.loads(backend.to_str())
    model["added_tokens"] = [one for one in model["added_tokens"] if one["content"] in control]
    if first == "normalised":
        model["pre_tokenizer"] = None
        blank = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        prepend = {"type": "Prepend", "prepend": "▁"}
        model["normalizer"] = {"type": "Sequence", "normalizers": [prepend, blank]}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(model)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )
