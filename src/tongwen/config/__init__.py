"""One typed, flat, frozen configuration per verb."""

from __future__ import annotations

from tongwen.config.adapter import AdapterConfig, ModelMergeConfig
from tongwen.config.align import AlignConfig
from tongwen.config.base import Config, Count, Positive, Rate, Seed, Share, Sources, VocabSize
from tongwen.config.cleaning import CleaningConfig
from tongwen.config.context import ContextConfig, Rope
from tongwen.config.data import (
    DataCleanConfig,
    DataInspectConfig,
    DataPrepareConfig,
    DataStatsConfig,
    ReadConfig,
    SiftConfig,
)
from tongwen.config.device import Device, DeviceConfig
from tongwen.config.duplicates import DuplicatesConfig
from tongwen.config.forecast import ForecastConfig
from tongwen.config.imports import DataImportConfig
from tongwen.config.optimizer import OptimizerConfig, Precision
from tongwen.config.processes import ProcessesConfig
from tongwen.config.questions import DataQuestionsConfig
from tongwen.config.replay import ReplayConfig
from tongwen.config.shards import DataExportKnowlmConfig, DataImportKnowlmConfig, DataMergeConfig
from tongwen.config.start import StartConfig, Tracker
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
from tongwen.config.train import FinetuneConfig, PretrainConfig, Size, TrainConfig
from tongwen.config.use import ChatConfig, QuickstartConfig, SamplingConfig

__all__ = [
    "AdapterConfig",
    "AlignConfig",
    "ChatConfig",
    "CleaningConfig",
    "Config",
    "ContextConfig",
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
    "Device",
    "DeviceConfig",
    "DuplicatesConfig",
    "EmbeddingInit",
    "FinetuneConfig",
    "ForecastConfig",
    "ModelMergeConfig",
    "OptimizerConfig",
    "Positive",
    "Precision",
    "PretrainConfig",
    "ProcessesConfig",
    "QuickstartConfig",
    "Rate",
    "ReadConfig",
    "ReplayConfig",
    "Rope",
    "SamplingConfig",
    "Seed",
    "Share",
    "SiftConfig",
    "Size",
    "Sources",
    "SplitName",
    "StartConfig",
    "TokenizerCheckConfig",
    "TokenizerExtendConfig",
    "TokenizerKind",
    "TokenizerPruneConfig",
    "TokenizerReportConfig",
    "TokenizerTrainConfig",
    "Tracker",
    "TrainConfig",
    "VocabSize",
]
