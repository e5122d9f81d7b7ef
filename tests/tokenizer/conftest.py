"""Small vocabularies in every format, made from text of our own."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import sentencepiece
from transformers import PreTrainedTokenizerFast

from tongwen.tokenizer import train_tokenizer
from tongwen.tokenizer.bytes import token_bytes
from tongwen.tokenizer.pieces import parse_pieces

TEXTS = [
    "今天天气很好，我们去公园散步。她说：“明天去图书馆读书吧！”",
    "The weather is fine today, so we walk in the park. It's 2024; don't stop.",
    "第12章 2024年的GPU价格是3.14万元，比去年便宜。    for x in range(10): print(x)",
    "人工智能将改变我们的生活，研究人员训练语言模型。Researchers train language models.",
] * 10

TrainPieces = Callable[..., bytes]


@pytest.fixture(scope="session")
def train_reference() -> TrainPieces:
    """SentencePiece's own trainer."""

    def train(kind: str, **options: Any) -> bytes:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS),
            model_writer=model,
            model_type=kind,
            vocab_size=options.pop("vocab_size", 420),
            hard_vocab_limit=False,
            minloglevel=2,
            num_threads=1,
            **options,
        )
        return model.getvalue()

    return train


@pytest.fixture(scope="session")
def byte_level() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of our own."""
    return train_tokenizer(TEXTS, 500)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory, train_reference: TrainPieces) -> Path:
    """A model of LLaMA's kind: BPE, bytes, a blank in front, nothing normalised."""
    path = tmp_path_factory.mktemp("llama") / "tokenizer.model"
    path.write_bytes(
        train_reference(
            "bpe",
            vocab_size=450,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
        )
    )
    return path


def write_ranks(path: Path) -> dict[bytes, int]:
    """tiktoken ranks: the bytes, then merges learned from the texts."""
    learned = train_tokenizer(TEXTS, 500)
    pieces = [piece for piece in token_bytes(learned) if piece]
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    lines = [f"{base64.b64encode(piece).decode()} {rank}\n" for piece, rank in ranks.items()]
    path.write_text("".join(lines), encoding="ascii")
    return ranks


def write_pair(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """GPT-2's two files."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    (folder / "vocab.bpe").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
    encoder = folder / "encoder.json"
    encoder.write_text(json.dumps(model["vocab"]), encoding="utf-8")
    return encoder


def write_gguf(path: Path, model: bytes) -> None:
    """The vocabulary of a SentencePiece model, written by llama.cpp's own package."""
    pieces = parse_pieces(model).pieces
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece.text for piece in pieces])
    writer.add_token_scores([piece.score for piece in pieces])
    writer.add_token_types([int(piece.type) for piece in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def write_llama2c(path: Path, model: bytes) -> None:
    """As export.py of llama2.c writes it."""
    pieces = parse_pieces(model).pieces
    data = struct.pack("<I", max(len(piece.text.encode()) for piece in pieces))
    for place, piece in enumerate(pieces):
        text = f"\n{piece.text}\n" if place in (1, 2) else piece.text.replace("▁", " ")
        data += struct.pack("<fI", piece.score, len(text.encode())) + text.encode()
    path.write_bytes(data)
