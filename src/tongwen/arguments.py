"""From the words of a command line to a verb and its settings; the only part that knows cyclopts.

Each field of a verb's configuration class becomes a flag of the same name. Bounds and required
fields are not checked here but by `tongwen.settings`, for flags and files alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.exceptions import UnknownCommandError, UnusedCliTokensError

from tongwen import __version__
from tongwen.errors import ConfigError
from tongwen.settings import flag, nearest, shown
from tongwen.verbs import VERBS, Verb

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

REQUIRED = Group("Required", sort_key=1)
OPTIONS = Group("Options", sort_key=2)
EVERY = Group("Every command", sort_key=3)
GROUPS = {
    "data": "See what goes into a model.",
    "model": "Put models together.",
    "tokenizer": "Text to tokens and back.",
    "config": "What the settings of the commands are.",
}
CONFIG = Parameter(
    help="TOML file with settings, or a preset by name; options given as flags win.", group=EVERY
)
JSON = Parameter(
    help="Print the result as one line of JSON.", group=EVERY, negative=(), show_default=False
)


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    verb: Verb
    values: dict[str, Any]
    """The settings that were given; for a verb with plain arguments, `words`."""
    file: Path | None
    as_json: bool


def parse(words: list[str]) -> Request | None:
    """Read a command line; help, version and shell completion are answered here (None)."""
    try:
        command, bound, _ = _app().parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise _mistake(error) from None
    asked = command(*bound.args, **bound.kwargs)
    return asked if isinstance(asked, Request) else None


def _app() -> App:
    app = App(name="tongwen", version=__version__, result_action="return_value")
    groups = {name: App(name=name, help=text) for name, text in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for place, verb in enumerate(VERBS):
        parent, _, name = verb.path.rpartition(" ")
        owner = groups[parent] if parent else app
        owner.command(_command(verb), name=name, usage=usage(verb), sort_key=place)
    app.register_install_completion_command()
    return app


def usage(verb: Verb) -> str:
    """How the command is written: what it needs, and that there is more."""
    words = ["Usage: tongwen", verb.path]
    if verb.config is None:
        words += [name.upper() for name in inspect.signature(verb.load()).parameters]
    else:
        for name, field in ordered_fields(verb):
            value = name.upper() + ("..." if name in ("sources", "data") else "")
            if field.is_required():
                words.append(value if name == verb.positional else f"{flag(name)} {value}")
    return " ".join([*words, "[OPTIONS]"])


def _command(verb: Verb) -> Callable[..., Request]:
    """A function whose signature tells cyclopts the arguments of a verb."""

    def run(*words: Any, config: Path | None = None, **given: Any) -> Request:
        as_json = given.pop("json", False)
        if verb.config is None:
            given["words"] = words
        elif words:
            given[str(verb.positional)] = words[0]
        return Request(verb, given, config, as_json)

    parameters = list(_parameters(verb))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__doc__ = verb.summary
    return run


def _parameters(verb: Verb) -> Iterator[inspect.Parameter]:
    if verb.config is None:
        for plain in inspect.signature(verb.load(), eval_str=True).parameters.values():
            meta = Parameter(allow_leading_hyphen=True)
            yield plain.replace(annotation=Annotated[plain.annotation, meta])
    else:
        types = get_type_hints(verb.config_class())
        for name, field in ordered_fields(verb):
            # On the command line a source is a word; only Python has paths.
            kind = list[str] if types[name] == list[str | Path] else types[name]
            yield _field(name, field, kind, positional=name == verb.positional)
        yield _keyword("config", Annotated[Path | None, CONFIG], None)
    yield _keyword("json", Annotated[bool, JSON], False)


def ordered_fields(verb: Verb) -> list[tuple[str, FieldInfo]]:
    """The fields of a verb: the positional one, then its own, then those it inherits."""
    config_class = verb.config_class()
    own = config_class.__annotations__
    fields = config_class.model_fields.items()
    return sorted(fields, key=lambda one: (one[0] != verb.positional, one[0] not in own))


def _field(name: str, field: FieldInfo, kind: Any, *, positional: bool) -> inspect.Parameter:
    # A required field may stand in the settings file, so no flag is required.
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True)
    meta = Parameter(
        help=field.description,
        group=REQUIRED if required else OPTIONS,
        show_default=False if default in (None, []) else shown(default),
        consume_multiple=True,
        negative_iterable=(),
        allow_leading_hyphen=kind in (str, str | None),
    )
    accepted = kind | None if required else kind
    parameter = _keyword(name, Annotated[accepted, meta], default)
    if positional:
        return parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return parameter


def _keyword(name: str, annotation: Any, default: object) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _mistake(error: CycloptsError) -> ConfigError:
    """What cyclopts could not read, in our words."""
    error.verbose = False
    path = " ".join(error.command_chain or ())
    ask = f"see `tongwen {path} --help`" if path else "see `tongwen --help`"
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        return _unknown_command(path, error.unused_tokens[0], ask)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return ConfigError(f"unexpected argument `{error.unused_tokens[0]}`", ask)
    message, _, advice = str(error).partition(". ")
    return ConfigError(_sentence(message), _sentence(advice) or ask)


def _unknown_command(path: str, word: str, ask: str) -> ConfigError:
    if word.startswith("-"):
        return ConfigError(f"unknown option `{word}` before a command", ask)
    known = {verb.path.rpartition(" ")[2]: verb.path for verb in VERBS}
    known |= {verb.path: verb.path for verb in VERBS}
    meant = nearest(f"{path} {word}".strip(), known) or nearest(word, known)
    hint = f"did you mean `tongwen {known[meant]}`?" if meant else ask
    return ConfigError(f"unknown command `{word}`", hint)


def _sentence(text: str) -> str:
    """Without a capital and a full stop, as all our messages are."""
    text = text.rstrip(".")
    return text[:1].lower() + text[1:]
