"""Tokenizers: train one for Chinese and English, load and save them."""

from __future__ import annotations

from tongwen.tokenizer.bytes import token_bytes
from tongwen.tokenizer.folder import load_tokenizer, save_tokenizer, tokenizer_hash
from tongwen.tokenizer.train import train_tokenizer

__all__ = [
    "load_tokenizer",
    "save_tokenizer",
    "token_bytes",
    "tokenizer_hash",
    "train_tokenizer",
]
