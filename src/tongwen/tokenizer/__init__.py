"""Tokenizers: train one for Chinese and English, load, save, compare and check them."""

from __future__ import annotations

from tongwen.tokenizer.bytes import is_byte_level, token_bytes
from tongwen.tokenizer.check import tokenizer_check
from tongwen.tokenizer.folder import load_tokenizer, save_tokenizer, tokenizer_hash
from tongwen.tokenizer.report import tokenizer_report
from tongwen.tokenizer.train import train_tokenizer

__all__ = [
    "is_byte_level",
    "load_tokenizer",
    "save_tokenizer",
    "token_bytes",
    "tokenizer_check",
    "tokenizer_hash",
    "tokenizer_report",
    "train_tokenizer",
]
