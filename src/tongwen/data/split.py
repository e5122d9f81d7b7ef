"""Which rows are held out: decided by their content and the seed, so equal rows stay together."""

from __future__ import annotations

import hashlib
import json

from tongwen.data.shards import Split
from tongwen.messages import Conversation, Document


def split_of(item: Conversation | Document, seed: int, hold_out: float) -> Split:
    """Where a row goes, by its content alone."""
    content = (
        item.text
        if isinstance(item, Document)
        else [[message.role, message.content] for message in item.messages]
    )
    text = json.dumps([seed, content], ensure_ascii=False)
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return "held_out" if int.from_bytes(digest, "big") < hold_out * 2**64 else "train"
