"""One typed, flat, frozen configuration per verb."""

from __future__ import annotations

from tongwen.config.base import Config, Count, Positive, Rate, Seed, Share, Sources, VocabSize
from tongwen.config.cleaning import CleaningConfig
from tongwen.config.data import (
    DataCleanConfig,
    DataInspectConfig,
    DataPrepareConfig,
    DataStatsConfig,
    ReadConfig,
    SiftConfig,
)
from tongwen.config.duplicates import DuplicatesConfig
from tongwen.config.imports import DataImportConfig
from tongwen.config.questions import DataQuestionsConfig
from tongwen.config.shards import DataExportKnowlmConfig, DataImportKnowlmConfig, DataMergeConfig
from tongwen.config.tokenizer import (
    EmbeddingInit,
    SplitName,
    TokenizerCheckConfig,
    TokenizerExtendConfig,
    TokenizerKind,
    TokenizerPruneConfig,
    TokenizerReportConfig,
    TokenizerTrainConfig,
)
from tongwen.config.train import FinetuneConfig, Precision, PretrainConfig, Size, TrainConfig
from tongwen.config.use import ChatConfig, QuickstartConfig, SamplingConfig

__all__ = [
    "ChatConfig",
    "CleaningConfig",
    "Config",
    "Count",
    "DataCleanConfig",
    "DataExportKnowlmConfig",
    "DataImportConfig",
    "DataImportKnowlmConfig",
    "DataInspectConfig",
    "DataMergeConfig",
    "DataPrepareConfig",
    "DataQuestionsConfig",
    "DataStatsConfig",
    "DuplicatesConfig",
    "EmbeddingInit",
    "FinetuneConfig",
    "Positive",
    "Precision",
    "PretrainConfig",
    "QuickstartConfig",
    "Rate",
    "ReadConfig",
    "SamplingConfig",
    "Seed",
    "Share",
    "SiftConfig",
    "Size",
    "Sources",
    "SplitName",
    "TokenizerCheckConfig",
    "TokenizerExtendConfig",
    "TokenizerKind",
    "TokenizerPruneConfig",
    "TokenizerReportConfig",
    "TokenizerTrainConfig",
    "TrainConfig",
    "VocabSize",
]
