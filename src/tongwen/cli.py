"""The command line: read the arguments, call the function, print what it returns.

stdout carries data, with `--json` one line of JSON at its end; stderr carries talk. A user's
mistake is `error: …` and `hint: …` on stderr and exit code 2; Ctrl-C is exit code 130.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

from tongwen.errors import TongwenError
from tongwen.verbs import VERBS

HEAD = """\
Tongwen 同文: from raw Chinese and English text to a language model of your own.

Usage: tongwen COMMAND [OPTIONS]
       tongwen COMMAND --help     what one command does, and its options
"""
TAIL = """\
Examples
  tongwen quickstart
  tongwen finetune --model quickstart --data my.jsonl --out mine
  tongwen chat --model mine --prompt "你好"

Every command takes --config FILE.toml (its keys are the options; flags win) and
--json (the last line of output is the result as JSON).

  --version              Print the version.
  --install-completion   Complete commands and options in your shell.

Read on: README.md, README.zh.md, docs/README.md; one option: `tongwen config
explain KEY`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words in ([], ["-h"], ["--help"]):
            print(overview())
        else:
            _run(words)
        sys.stdout.flush()
    except TongwenError as error:
        return _complain(error.message, error.hint)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of a pipe is gone; without this the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        return _complain(f"{where}{error.strerror or error}", None)
    return 0


def overview() -> str:
    """The first page of help: the way through, in order."""
    width = max(60, min(100, shutil.get_terminal_size().columns))
    column = max(len(verb.path) for verb in VERBS) + 4
    lines = [HEAD]
    for group in dict.fromkeys(verb.group for verb in VERBS):
        lines.append(group)
        for verb in (verb for verb in VERBS if verb.group == group):
            name, rest = f"  {verb.path}".ljust(column), " " * column
            lines += textwrap.wrap(verb.summary, width, initial_indent=name, subsequent_indent=rest)
        lines.append("")
    return "\n".join([*lines, TAIL])


def show(result: object, *, as_json: bool) -> None:
    """Print what a verb returned: one line of JSON, its own text, or its fields."""
    from pydantic_core import to_json, to_jsonable_python

    if as_json:
        print(to_json(result, inf_nan_mode="null").decode("utf-8"))
    elif type(result).__str__ is not object.__str__:
        if text := str(result):
            print(text)
    elif result is not None:
        print(json.dumps(to_jsonable_python(result), ensure_ascii=False, indent=2))


def _run(words: list[str]) -> None:
    from tongwen.arguments import parse
    from tongwen.settings import settings

    request = parse(words)
    if request is None:
        return
    verb, values = request.verb, request.values
    if verb.config is None:
        result = verb.load()(*values["words"])
    else:
        # Before the function: a mistake is told before torch is loaded.
        config = settings(verb.config_class(), values, request.file)
        result = verb.load()(config)
    show(result, as_json=request.as_json)


def _complain(message: str, hint: str | None) -> int:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 2
