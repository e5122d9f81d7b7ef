"""Tongwen: from raw Chinese and English text to a language model of your own.

Everything the command line does is a function here, with the same name and the same settings:
`tongwen finetune --model M --data D --out R` is
`tongwen.finetune(tongwen.FinetuneConfig(model="M", data=["D"], out="R"))`.

Names are resolved when they are first used: `import tongwen` alone loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tongwen.alignment import align
    from tongwen.apps.talk import chat
    from tongwen.config import (
        AlignConfig,
        ChatConfig,
        DataCleanConfig,
        DataExportKnowlmConfig,
        DataImportConfig,
        DataImportKnowlmConfig,
        DataInspectConfig,
        DataMergeConfig,
        DataPrepareConfig,
        DataQuestionsConfig,
        DataStatsConfig,
        FinetuneConfig,
        ForecastConfig,
        ModelMergeConfig,
        PretrainConfig,
        QuickstartConfig,
        ReplayConfig,
        TokenizerCheckConfig,
        TokenizerExtendConfig,
        TokenizerPruneConfig,
        TokenizerReportConfig,
        TokenizerTrainConfig,
    )
    from tongwen.course import quickstart
    from tongwen.data import data_clean, data_inspect, data_prepare, data_stats, tokenizer_train
    from tongwen.data.imports import data_import_config
    from tongwen.data.knowlm import data_export_knowlm, data_import_knowlm
    from tongwen.data.merge import data_merge
    from tongwen.data.questions import data_questions
    from tongwen.errors import ConfigError, DataError, ModelError, RunError, TongwenError
    from tongwen.forecasts import forecast
    from tongwen.messages import Conversation, Message
    from tongwen.models.merged import model_merge
    from tongwen.models.vocabulary import tokenizer_extend, tokenizer_prune
    from tongwen.replays import replay
    from tongwen.settings import config_explain, config_presets, config_schema
    from tongwen.tokenizer import tokenizer_check, tokenizer_report
    from tongwen.train import finetune, pretrain

__version__ = "0.1.0"

__all__ = [
    "AlignConfig",
    "ChatConfig",
    "ConfigError",
    "Conversation",
    "DataCleanConfig",
    "DataError",
    "DataExportKnowlmConfig",
    "DataImportConfig",
    "DataImportKnowlmConfig",
    "DataInspectConfig",
    "DataMergeConfig",
    "DataPrepareConfig",
    "DataQuestionsConfig",
    "DataStatsConfig",
    "FinetuneConfig",
    "ForecastConfig",
    "Message",
    "ModelError",
    "ModelMergeConfig",
    "PretrainConfig",
    "QuickstartConfig",
    "ReplayConfig",
    "RunError",
    "TokenizerCheckConfig",
    "TokenizerExtendConfig",
    "TokenizerPruneConfig",
    "TokenizerReportConfig",
    "TokenizerTrainConfig",
    "TongwenError",
    "align",
    "chat",
    "config_explain",
    "config_presets",
    "config_schema",
    "data_clean",
    "data_export_knowlm",
    "data_import_config",
    "data_import_knowlm",
    "data_inspect",
    "data_merge",
    "data_prepare",
    "data_questions",
    "data_stats",
    "finetune",
    "forecast",
    "model_merge",
    "pretrain",
    "quickstart",
    "replay",
    "tokenizer_check",
    "tokenizer_extend",
    "tokenizer_prune",
    "tokenizer_report",
    "tokenizer_train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tongwen' has no attribute {name!r}")
    from tongwen.verbs import VERBS

    home = {verb.function: verb.home for verb in VERBS}
    home |= {verb.config: "tongwen.config" for verb in VERBS if verb.config is not None}
    home |= dict.fromkeys(("Conversation", "Message"), "tongwen.messages")
    value = getattr(import_module(home.get(name, "tongwen.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
