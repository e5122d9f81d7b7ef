"""`tongwen data import-config`: another trainer's config, key by key, as settings of ours.

Nothing is passed over: every key is taken, has no effect here, belongs to another command, or is
refused, and each is listed with the reason. A refused key is one that would change what is learned;
with one of them no settings are written, unless it is left out by name. What the other trainer does
where a key is absent is made explicit where it is not what we do.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from tongwen.config import AlignConfig, Config, FinetuneConfig, PretrainConfig
from tongwen.config.imports import DataImportConfig
from tongwen.data.foreign_config import (
    Answer,
    Asked,
    Fate,
    Foreign,
    Verb,
    idle,
    number,
    plain,
    refused,
    shown,
    taken,
)
from tongwen.data.foreign_keys import FRAMEWORKS, MS_SWIFT, Framework, Said
from tongwen.data.foreign_learning import ADAPTERS
from tongwen.data.foreign_values import CONVERTERS, NUMERIC
from tongwen.errors import ConfigError
from tongwen.files import write_whole
from tongwen.progress import say
from tongwen.settings import nearest, settings

SECRET: Final = re.compile("token$|_key$|secret")
"""Keys whose values are shown to nobody."""
CONFIGS: Final[Mapping[Verb, type[Config]]] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "align": AlignConfig,
}
OFF: Final[tuple[object, ...]] = (None, False, 0, "", "none", "null", "false", [], {})
"""Values with which a key asks for nothing."""
DEEPEST: Final = 20
"""Levels of values within values."""
WORDS: Final[dict[Fate, str]] = {
    "taken": "taken",
    "idle": "no effect",
    "moved": "data prepare",
    "refused": "refused",
}


@dataclass(frozen=True)
class ImportedKey:
    """What became of one key."""

    key: str
    value: str
    fate: Fate
    text: str
    """As what it was taken, or why not."""
    default: bool
    """Not in the config: what the other trainer does without it."""


@dataclass(frozen=True)
class DataImportResult:
    """Settings of ours, and what became of each key."""

    framework: str
    verb: Verb
    settings: dict[str, Any]
    keys: tuple[ImportedKey, ...]
    out: Path | None
    toml: str

    def __str__(self) -> str:
        return self.toml.rstrip("\n") if self.out is None else str(self.out)


def data_import_config(config: DataImportConfig) -> DataImportResult:
    """Turn another trainer's config into ours; a ConfigError names every key that is refused."""
    values = _read(config.file)
    framework = _recognise(values, config.file)
    written = {key: plain(value) for key, value in values.items()}
    added = _added(framework, written, config)
    present = {**added, **written}
    if strange := [key for key in config.leave_out if key not in present]:
        raise ConfigError(
            f"`{strange[0]}` of --leave-out is not in {config.file}", "check its name"
        )
    kept = {key: value for key, value in present.items() if key not in config.leave_out}
    foreign = Foreign(framework, kept, config)
    unused = {key for key in added if foreign.lacks(key)}
    answers = {
        key: _answer(foreign, key) if key in kept else idle("left out, as you asked")
        for key in present
        if key not in unused
    }
    keys = tuple(
        ImportedKey(key, _shown(key, present[key]), one.fate, one.text, key in added)
        for key, one in answers.items()
    )
    _tell(framework, keys)
    if fatal := [key.key for key in keys if key.fate == "refused"]:
        raise ConfigError(
            f"{config.file} cannot be followed in {', '.join(fatal)}",
            "see the list above; what you can do without goes into --leave-out",
        )
    ours = _settings(foreign, answers)
    toml = _header(config.file, foreign, keys) + ours.toml()
    if config.out is not None:
        write_whole(config.out, toml)
    given = ours.model_dump(mode="json", exclude_none=True)
    return DataImportResult(framework.name, foreign.verb, given, keys, config.out, toml)


def _read(file: Path) -> dict[str, Any]:
    """The keys and values of YAML, JSON or a shell command."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text", "save the file as UTF-8") from None
    if file.suffix in (".sh", ".bash", ".txt"):
        return _command(text, file)
    try:
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"{file} is not valid {file.suffix[1:].upper()}: {where}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{file} holds no keys and values", "give a training config")
    if _is_deep(values):
        raise ConfigError(
            f"{file} holds values more than {DEEPEST} levels deep", "give a training config"
        )
    return {str(key): value for key, value in values.items()}


def _is_deep(values: object) -> bool:
    """Whether values lie deeper than DEEPEST, as do all that YAML lets hold themselves."""
    level = [values]
    for _ in range(DEEPEST):
        held = [one.values() if isinstance(one, dict) else one for one in level]
        lists = [one for one in held if not isinstance(one, str) and isinstance(one, Collection)]
        level = list({id(inner): inner for one in lists for inner in one}.values())
    return bool(level)


def _command(text: str, file: Path) -> dict[str, Any]:
    """The flags of the `swift` command in a shell script."""
    try:
        lines = [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").split("\n")]
    except ValueError as error:
        raise ConfigError(f"{file} is not a shell command: {error}") from None
    found = next((line for line in lines if "swift" in map(_program, line[:-1])), None)
    if found is None:
        raise ConfigError(
            f"there is no `swift` command in {file}", "give a script with `swift sft`"
        )
    command, *flags = found[[*map(_program, found)].index("swift") + 1 :]
    values: dict[str, Any] = {"command": command}
    key = ""
    for word in flags:
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            values[key] = [value] if value else []
        elif key:
            values[key].append(word)
        else:
            raise ConfigError(f"'{word}' in {file} belongs to no flag", "check the command")
    return {key: _said(value) for key, value in values.items()}


def _program(word: str) -> str:
    return word.rpartition("/")[2]


def _said(words: Any) -> Any:
    """What the words behind a flag say: nothing is `true`, one is itself."""
    if not isinstance(words, list):
        return words
    values = [_word(word) for word in words]
    return True if not values else values[0] if len(values) == 1 else values


def _word(word: str) -> Any:
    """What a word means as YAML; what is none means itself."""
    try:
        return yaml.safe_load(word) if word else word
    except (ValueError, yaml.YAMLError, RecursionError):
        return word


def _recognise(values: Mapping[str, Any], file: Path) -> Framework:
    for framework in FRAMEWORKS:
        if set(framework.marks.split()) & set(values):
            return framework
    if {"model", "dataset"} <= set(values):
        return MS_SWIFT
    names = ", ".join(framework.name for framework in FRAMEWORKS)
    raise ConfigError(
        f"{file} is no config of {names}",
        "it would have one of the keys base_model, model_name_or_path, or model and dataset",
    )


def _added(
    framework: Framework, written: Mapping[str, object], config: DataImportConfig
) -> dict[str, object]:
    """The keys that are absent, with what the other trainer does."""
    known = _known(written)
    added = {key: value for key, value in framework.defaults.items() if key not in known}
    if Foreign(framework, {**added, **written}, config).method in ADAPTERS:
        more = framework.adapter_defaults.items()
        added |= {key: value for key, value in more if key not in known}
    return added


def _known(values: Mapping[str, object]) -> set[str]:
    """The keys of a config, and other names for the same that make a default needless."""
    same = {"train_type": "tuner_type", "sft_type": "tuner_type", "warmup_steps": "warmup_ratio"}
    filled = {key for key, value in values.items() if value is not None}
    return filled | {same[key] for key in filled if key in same}


def _find(table: Said, key: str) -> str | None:
    return next((said for said, keys in table.items() if key in keys.split()), None)


def _answer(foreign: Foreign, key: str) -> Answer:
    framework, value = foreign.framework, foreign.values[key]
    if isinstance(value, str) and "$" in value:
        return refused("a shell variable: write its value")
    if lacking := foreign.lacks(key):
        return idle(f"no effect there either, without {lacking}")
    if (name := _find(framework.taken, key)) is not None:
        return idle("not given") if value is None else taken(**{name: value})
    if (converter := _find(framework.converted, key)) is not None:
        if converter in NUMERIC and value not in OFF and number(value) is None:
            return refused("not a finite number")
        return CONVERTERS[converter](Asked(foreign, key, value))
    if (reason := _find(framework.idle, key)) is not None:
        return idle(reason.strip())
    if (reason := _find(framework.refused, key)) is not None:
        return idle("not asked for") if value in OFF else refused(reason)
    known = [
        word
        for table in (framework.taken, framework.converted, framework.idle, framework.refused)
        for words in table.values()
        for word in words.split()
    ]
    meant = nearest(key, known)
    did_you_mean = f"; did you mean `{meant}`?" if meant else ""
    return refused(f"not a key of {framework.name} that is known here{did_you_mean}")


def _settings(foreign: Foreign, answers: Mapping[str, Answer]) -> Config:
    values: dict[str, object] = {}
    for answer in answers.values():
        values |= answer.settings
    if foreign.config.data:
        values["data"] = [str(path) for path in foreign.config.data]
    return settings(CONFIGS[foreign.verb], values)


def _header(file: Path, foreign: Foreign, keys: tuple[ImportedKey, ...]) -> str:
    """Comments: where the settings come from, and what is to be done before."""
    name, verb = foreign.framework.name, foreign.verb
    lines = [f"# From {file.name} ({name}): tongwen {verb} --config THIS_FILE"]
    if moved := " ".join(key.text for key in keys if key.fate == "moved"):
        lines.append(f"# Before that: tongwen data prepare DATA --out PREPARED {moved}")
    return "\n".join([*lines, ""])


def _shown(key: str, value: object) -> str:
    return "…" if SECRET.search(key) else "null" if value is None else shown(value)


def _tell(framework: Framework, keys: tuple[ImportedKey, ...]) -> None:
    say(f"a config of {framework.name}:")
    width = max(len(key.key) for key in keys)
    for fate, word in WORDS.items():
        for key in (key for key in keys if key.fate == fate):
            absent = f", {framework.name}'s default" if key.default else ""
            say(f"  {word:<12}  {key.key:<{width}}  {key.text} ({key.value}{absent})")
