"""From files to a prepared folder: every row used, held out or rejected, and tokens on disk."""

from __future__ import annotations

from tongwen.data.clean import DataSiftResult, data_clean, data_stats
from tongwen.data.inspect import DataInspectResult, data_inspect
from tongwen.data.manifest import Manifest, load_manifest
from tongwen.data.prepare import DataPrepareResult, data_prepare
from tongwen.data.shards import KINDS, LANGUAGES, TokenStore, TokenWriter
from tongwen.data.vocabulary import TokenizerTrainResult, tokenizer_train

__all__ = [
    "KINDS",
    "LANGUAGES",
    "DataInspectResult",
    "DataPrepareResult",
    "DataSiftResult",
    "Manifest",
    "TokenStore",
    "TokenWriter",
    "TokenizerTrainResult",
    "data_clean",
    "data_inspect",
    "data_prepare",
    "data_stats",
    "load_manifest",
    "tokenizer_train",
]
