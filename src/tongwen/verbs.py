"""Everything a person can ask Tongwen to do, in the order of the way through.

This one table makes the command line, the public functions of the package and the reference in
`docs/reference/`. The verb `data prepare` is the function `tongwen.data_prepare`, which takes one
`DataPrepareConfig`; a verb without a configuration class takes plain arguments.

Nothing is imported until a verb is asked for: `tongwen --help` must answer at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tongwen.config import Config


@dataclass(frozen=True)
class Verb:
    """One command, and the function it stands for."""

    path: str
    """The words after `tongwen` on the command line."""
    group: str
    """Heading on the help page."""
    home: str
    """Module that holds the function."""
    config: str | None = None
    """Name of the configuration class in `tongwen.config`."""
    positional: str | None = None
    """The field that may be given without its flag."""

    @property
    def function(self) -> str:
        """Name of the public function."""
        return self.path.replace(" ", "_").replace("-", "_")

    @property
    def summary(self) -> str:
        """What the verb does, in one line."""
        documented = self.load() if self.config is None else self.config_class()
        return (inspect.getdoc(documented) or "").partition("\n")[0]

    def config_class(self) -> type[Config]:
        """The configuration class of a verb that has one."""
        assert self.config is not None, f"`{self.path}` takes plain arguments"
        found: type[Config] = getattr(import_module("tongwen.config"), self.config)
        return found

    def load(self) -> Callable[..., Any]:
        """The function itself; this imports what it needs, torch included."""
        found: Callable[..., Any] = getattr(import_module(self.home), self.function)
        return found


VERBS = (
    Verb("quickstart", "Start here", "tongwen.course", "QuickstartConfig"),
    Verb("data prepare", "Data", "tongwen.data", "DataPrepareConfig", "sources"),
    Verb("data stats", "Data", "tongwen.data", "DataStatsConfig", "sources"),
    Verb("data clean", "Data", "tongwen.data", "DataCleanConfig", "sources"),
    Verb("data inspect", "Data", "tongwen.data", "DataInspectConfig", "source"),
    Verb("data questions", "Data", "tongwen.data.questions", "DataQuestionsConfig", "sources"),
    Verb("data import-config", "Data", "tongwen.data.imports", "DataImportConfig", "file"),
    Verb("data merge", "Data", "tongwen.data.merge", "DataMergeConfig", "folders"),
    Verb("data import-knowlm", "Data", "tongwen.data.knowlm", "DataImportKnowlmConfig", "prefix"),
    Verb("data export-knowlm", "Data", "tongwen.data.knowlm", "DataExportKnowlmConfig", "folders"),
    Verb("tokenizer train", "Train", "tongwen.data", "TokenizerTrainConfig", "sources"),
    Verb("tokenizer report", "Train", "tongwen.tokenizer", "TokenizerReportConfig", "tokenizers"),
    Verb("tokenizer check", "Train", "tongwen.tokenizer", "TokenizerCheckConfig", "tokenizer"),
    Verb(
        "tokenizer extend",
        "Train",
        "tongwen.models.vocabulary",
        "TokenizerExtendConfig",
        "tokenizer",
    ),
    Verb(
        "tokenizer prune",
        "Train",
        "tongwen.models.vocabulary",
        "TokenizerPruneConfig",
        "tokenizer",
    ),
    Verb("pretrain", "Train", "tongwen.train", "PretrainConfig"),
    Verb("finetune", "Train", "tongwen.train", "FinetuneConfig"),
    Verb("align", "Train", "tongwen.alignment", "AlignConfig"),
    Verb("replay", "Train", "tongwen.replays", "ReplayConfig", "run"),
    Verb("forecast", "Train", "tongwen.forecasts", "ForecastConfig", "run"),
    Verb("model merge", "Use", "tongwen.models.merged", "ModelMergeConfig", "adapter"),
    Verb("chat", "Use", "tongwen.apps.talk", "ChatConfig"),
    Verb("config presets", "Settings", "tongwen.settings"),
    Verb("config schema", "Settings", "tongwen.settings"),
    Verb("config explain", "Settings", "tongwen.settings"),
)
