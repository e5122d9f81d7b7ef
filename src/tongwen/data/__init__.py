"""From files to a prepared folder: every row used, held out or rejected, and tokens on disk."""

from __future__ import annotations

from tongwen.data.inspect import DataInspectResult, data_inspect
from tongwen.data.manifest import Manifest, load_manifest
from tongwen.data.prepare import DataPrepareResult, data_prepare
from tongwen.data.shards import LANGUAGES, TokenStore, TokenWriter
from tongwen.data.vocabulary import TokenizerTrainResult, tokenizer_train

__all__ = [
    "LANGUAGES",
    "DataInspectResult",
    "DataPrepareResult",
    "Manifest",
    "TokenStore",
    "TokenWriter",
    "TokenizerTrainResult",
    "data_inspect",
    "data_prepare",
    "load_manifest",
    "tokenizer_train",
]
