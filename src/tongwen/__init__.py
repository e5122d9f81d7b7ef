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
    from tongwen.apps.talk import chat
    from tongwen.config import (
        ChatConfig,
        DataInspectConfig,
        DataPrepareConfig,
        FinetuneConfig,
        PretrainConfig,
        QuickstartConfig,
        TokenizerTrainConfig,
    )
    from tongwen.course import quickstart
    from tongwen.data import data_inspect, data_prepare, tokenizer_train
    from tongwen.errors import (
        ConfigError,
        DataError,
        ModelError,
        RunError,
        TongwenError,
    )
    from tongwen.messages import Conversation, Message
    from tongwen.settings import config_explain, config_schema
    from tongwen.train import finetune, pretrain

__version__ = "0.1.0"

__all__ = [
    "ChatConfig",
    "ConfigError",
    "Conversation",
    "DataError",
    "DataInspectConfig",
    "DataPrepareConfig",
    "FinetuneConfig",
    "Message",
    "ModelError",
    "PretrainConfig",
    "QuickstartConfig",
    "RunError",
    "TokenizerTrainConfig",
    "TongwenError",
    "chat",
    "config_explain",
    "config_schema",
    "data_inspect",
    "data_prepare",
    "finetune",
    "pretrain",
    "quickstart",
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
