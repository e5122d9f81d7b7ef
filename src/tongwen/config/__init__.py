"""One typed, flat, frozen configuration per verb."""

from __future__ import annotations

from tongwen.config.base import Config, Count, Positive, Rate, Seed, Share, VocabSize
from tongwen.config.data import DataInspectConfig, DataPrepareConfig
from tongwen.config.tokenizer import TokenizerTrainConfig
from tongwen.config.train import FinetuneConfig, Precision, PretrainConfig, Size, TrainConfig
from tongwen.config.use import ChatConfig, QuickstartConfig, SamplingConfig

__all__ = [
    "ChatConfig",
    "Config",
    "Count",
    "DataInspectConfig",
    "DataPrepareConfig",
    "FinetuneConfig",
    "Positive",
    "Precision",
    "PretrainConfig",
    "QuickstartConfig",
    "Rate",
    "SamplingConfig",
    "Seed",
    "Share",
    "Size",
    "TokenizerTrainConfig",
    "TrainConfig",
    "VocabSize",
]
