"""The least that can be trained: a model of 13 thousand weights, and data of bytes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tongwen.config import DataPrepareConfig
from tongwen.data import data_prepare
from tongwen.tokenizer import save_tokenizer, train_tokenizer

WORDS = "天 地 人 水 火 one two three four five".split()


def make(folder: Path) -> None:
    """Fill a folder with `model`, and the prepared folders `text`, `chat` and `pairs`."""
    tokenizer = train_tokenizer([], vocab_size=259)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    save_tokenizer(tokenizer, folder / "model")
    words = [WORDS[i % 10] + WORDS[i // 10 % 10] + str(i) for i in range(48)]
    rows: dict[str, list[dict[str, str]]] = {
        "text": [{"text": word * 3} for word in words],
        "chat": [{"instruction": word, "output": word[::-1]} for word in words],
        "pairs": [{"prompt": word, "chosen": word[::-1], "rejected": word} for word in words],
    }
    for name, lines in rows.items():
        source = folder / f"{name}.jsonl"
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        source.write_text(text, encoding="utf-8")
        data_prepare(
            DataPrepareConfig(
                sources=[source],
                out=folder / name,
                tokenizer=folder / "model",
                hold_out=0.1,
                max_length=128,
                workers=1,
            )
        )
