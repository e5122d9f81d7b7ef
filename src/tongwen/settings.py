"""Settings from flags and TOML files, and what each key means.

A settings file is flat TOML whose keys are the field names of one configuration class; flags win
over it. The name of a preset stands for its file. A key that no field has is an error that names
the nearest one. Paths in a file are relative to the current folder, as on the command line.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tongwen.config import Config
from tongwen.errors import ConfigError
from tongwen.verbs import VERBS, Verb

C = TypeVar("C", bound=Config)
PRESETS = Path(__file__).with_name("presets")


def flag(key: str) -> str:
    """`batch_tokens` → `--batch-tokens`."""
    return "--" + key.replace("_", "-")


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known word that was probably meant."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def read_toml(file: Path, example: str) -> dict[str, Any]:
    """Read a file that a user wrote; a ConfigError shows the example where it is no TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text", "save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}", f"write `{example}`") from None


@dataclass(frozen=True)
class Preset:
    """Settings that come with the package: the recipe of a system that others know."""

    name: str
    command: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}  ({self.command})\n    {self.text}"


@dataclass(frozen=True)
class Presets:
    """All presets."""

    presets: tuple[Preset, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.presets))


def config_presets() -> Presets:
    """List the settings that come with the package: `--config NAME` takes them."""
    found = []
    for file in sorted(PRESETS.glob("*.toml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        comment = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
        command, _, text = comment.partition(": ")
        found.append(Preset(file.stem, command, text))
    return Presets(tuple(found))


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset: `FinetuneConfig(**preset("vicuna-chat"), model=…)`."""
    file = PRESETS / f"{name}.toml"
    known = [path.stem for path in PRESETS.glob("*.toml")]
    if name not in known:
        meant = nearest(name, known)
        hint = f"did you mean `{meant}`?" if meant else f"there are {_list(known)}"
        raise ConfigError(f"no preset `{name}`", hint)
    return tomllib.loads(file.read_text(encoding="utf-8"))


def settings(config_class: type[C], flags: Mapping[str, object], file: Path | None = None) -> C:
    """Make a configuration from flags and, where they are silent, from a TOML file or preset."""
    if file is not None:
        file = file_or_preset(file)
    from_file = {} if file is None else _read(file, config_class)
    try:
        return config_class(**{**from_file, **flags})
    except ValidationError as error:
        raise _mistake(error, config_class, flags, file) from None


def file_or_preset(file: Path) -> Path:
    """The file that a person means, who may have written the name of a preset."""
    known = [path.stem for path in PRESETS.glob("*.toml")]
    if file.exists():
        return file
    if str(file) in known:
        return PRESETS / f"{file}.toml"
    if meant := nearest(str(file), known):
        raise ConfigError(f"there is no file {file}", f"did you mean the preset `{meant}`?")
    return file


def config_schema(*verb: str) -> dict[str, Any]:
    """Print the JSON schema of one command's settings.

    Args:
        verb: The command, for example `pretrain` or `data prepare`.
    """
    path = " ".join(verb)
    known = {one.path: one for one in VERBS if one.config is not None}
    if path not in known:
        meant = nearest(path, known)
        hint = f"did you mean `{meant}`?" if meant else f"commands with settings: {_list(known)}"
        raise ConfigError(f"no command `{path}` with settings", hint)
    return known[path].config_class().model_json_schema()


@dataclass(frozen=True)
class Meaning:
    """What one key means in the commands named."""

    commands: tuple[str, ...]
    allowed: str
    default: str | None
    text: str


@dataclass(frozen=True)
class Explanation:
    """What one key means everywhere."""

    key: str
    meanings: tuple[Meaning, ...]

    def __str__(self) -> str:
        lines = [f"{flag(self.key)} on the command line, `{self.key}` in a file and in Python"]
        for one in self.meanings:
            default = "required" if one.default is None else f"default {one.default}"
            lines += ["", f"{', '.join(one.commands)}: {one.allowed}; {default}", f"  {one.text}"]
        return "\n".join(lines)


def config_explain(key: str, /) -> Explanation:
    """Explain one setting in every command that has it.

    Args:
        key: The setting, for example `batch_tokens` or `--batch-tokens`.
    """
    name = key.lstrip("-").replace("-", "_")
    found: dict[tuple[str, str | None, str], list[str]] = {}
    known: set[str] = set()
    for verb in with_settings():
        fields = verb.config_class().model_fields
        known |= set(fields)
        if name in fields:
            found.setdefault(describe(verb.config_class(), name), []).append(verb.path)
    if not found:
        meant = nearest(name, known)
        raise ConfigError(
            f"no command has a setting `{key}`",
            f"did you mean `{meant}`?" if meant else f"settings: {_list(known)}",
        )
    meanings = tuple(Meaning(tuple(paths), *parts) for parts, paths in found.items())
    return Explanation(name, meanings)


def with_settings() -> list[Verb]:
    """The verbs that have a configuration class."""
    return [verb for verb in VERBS if verb.config is not None]


def describe(config_class: type[Config], key: str) -> tuple[str, str | None, str]:
    """What a field accepts, its default (None when it is required), and its text."""
    schema = config_class.model_json_schema()
    field = config_class.model_fields[key]
    allowed = _accepts(schema["properties"][key])
    if field.is_required():
        return allowed, None, field.description or ""
    return allowed, shown(field.get_default(call_default_factory=True)), field.description or ""


def shown(default: object) -> str:
    """A default as it would be written."""
    if isinstance(default, list | tuple):
        return " ".join(map(str, default)) or "none"
    if default is None:
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _accepts(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words: `integer > 0`, `auto | bf16 | fp32`, `one or more paths`."""
    if "anyOf" in schema:
        return " or ".join(_accepts(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "prefixItems" in schema:
        return ", ".join(map(_accepts, schema["prefixItems"]))
    if schema.get("type") == "array":
        one = _accepts(schema["items"])
        return f"one or more {one}s" if one.isalpha() else f"one or more of {one}"
    names = {"string": "text", "boolean": "true or false", "null": "none"}
    kind = schema.get("format") or names.get(schema["type"], schema["type"])
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([kind, " and ".join(bounds)]).strip()


def _list(words: Collection[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


def _read(file: Path, config_class: type[Config]) -> dict[str, Any]:
    """The keys and values of a settings file, all of them known."""
    values = read_toml(file, "key = value")
    known = config_class.model_fields
    unknown = [key for key in values if key not in known]
    if unknown:
        meant = [match for key in unknown if (match := nearest(key.replace("-", "_"), known))]
        hint = f"did you mean {_list(meant)}?" if meant else f"known keys: {_list(known)}"
        raise ConfigError(f"unknown key {_list(unknown)} in {file}", hint)
    return values


def _mistake(
    error: ValidationError, config_class: type[Config], flags: Collection[str], file: Path | None
) -> ConfigError:
    """One line that names every wrong setting, its value and what is allowed."""
    details = error.errors(include_url=False)
    missing = [flag(str(one["loc"][0])) for one in details if one["type"] == "missing"]
    complaints = [_complaint(one, flags, file) for one in details if one["type"] != "missing"]
    if missing:
        complaints.append(f"missing {', '.join(missing)}")
    keys = dict.fromkeys(str(one["loc"][0]) for one in details if one["loc"])
    texts = [(key, describe(config_class, key)[2]) for key in keys]
    hint = "; ".join(
        f"{flag(key)}: {text[:1].lower()}{text[1:].rstrip('.')}" for key, text in texts
    )
    return ConfigError("; ".join(complaints), hint or None)


def _complaint(detail: ErrorDetails, flags: Collection[str], file: Path | None) -> str:
    reason = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return reason
    key = str(detail["loc"][0])
    name = flag(key) if key in flags or file is None else f"`{key}` in {file}"
    return f"{name} {reason.replace('Input should', 'should')}, not {detail['input']!r}"
