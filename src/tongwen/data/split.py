"""Which rows are held out: decided by their content and the seed, so equal rows stay together."""

from __future__ import annotations

import hashlib
import json

from tongwen.data.shards import Split
from tongwen.messages import Conversation, Document, Item


def split_of(item: Item, seed: int, hold_out: float) -> Split:
    """Where a row goes, by its content alone."""
    text = json.dumps([seed, _content(item)], ensure_ascii=False)
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return "held_out" if int.from_bytes(digest, "big") < hold_out * 2**64 else "train"


def _content(item: Item) -> object:
    match item:
        case Document():
            return item.text
        case Conversation():
            return [[message.role, message.content] for message in item.messages]
        case _:
            return item.to_record()
