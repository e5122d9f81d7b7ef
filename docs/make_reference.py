"""Write docs/reference from the code, or with --check say whether it is up to date."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from tongwen.arguments import ordered_fields, usage
from tongwen.settings import config_explain, describe, flag, with_settings
from tongwen.verbs import VERBS, Verb

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `make docs` from the code; edit the docstrings there. -->"


def pages() -> dict[Path, str]:
    """Every page of the reference and its text."""
    return {FOLDER / "commands.md": commands(), FOLDER / "keys.md": keys()}


def commands() -> str:
    """Each command: how it is written, the function it stands for, its options."""
    lines = [NOTE, "", "# Commands", ""]
    lines += [
        "Every command also takes `--config FILE.toml` (keys are the options with `_` for `-`;",
        "flags win over the file), `--json` (the last line of output is the result as JSON) and",
        "`--help`. Talk, progress and errors go to stderr, results to stdout. Exit codes: 0 done,",
        "2 a mistake that can be mended (`error: …`, `hint: …`), 130 stopped with Ctrl-C.",
        "",
    ]
    for verb in VERBS:
        lines += [f"## {verb.path}", "", verb.summary, ""]
        lines += ["```text", usage(verb).removeprefix("Usage: "), "```", ""]
        lines += [f"In Python: `{_call(verb)}`", ""]
        if verb.config is not None:
            lines += _options(verb)
    return "\n".join(lines).rstrip() + "\n"


def _call(verb: Verb) -> str:
    if verb.config is not None:
        return f"tongwen.{verb.function}(tongwen.{verb.config}(…))"
    names = inspect.signature(verb.load()).parameters.values()
    return f"tongwen.{verb.function}({', '.join(str(name).partition(':')[0] for name in names)})"


def _options(verb: Verb) -> list[str]:
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    config_class = verb.config_class()
    for key, _ in ordered_fields(verb):
        allowed, default, text = describe(config_class, key)
        name = f"`{key.upper()}` or `{flag(key)}`" if key == verb.positional else f"`{flag(key)}`"
        value = "required" if default is None else f"`{default}`"
        lines.append(f"| {name} | {_cell(allowed)} | {value} | {_cell(text)} |")
    return [*lines, ""]


def keys() -> str:
    """Each key of the settings in alphabetical order, in every command that has it."""
    names = {name for verb in with_settings() for name in verb.config_class().model_fields}
    lines = [NOTE, "", "# Keys", "", "`tongwen config explain KEY` says the same.", ""]
    for name in sorted(names):
        lines += [f"## {name}", ""]
        for one in config_explain(name).meanings:
            default = "required" if one.default is None else f"default `{one.default}`"
            where = ", ".join(f"`{path}`" for path in one.commands)
            lines.append(f"- {where}: {one.allowed}; {default}. {one.text}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the pages; with --check change nothing and return 1 when one is out of date."""
    check, stale = "--check" in sys.argv[1:], []
    for path, text in pages().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        names = ", ".join(path.name for path in stale)
        print(f"error: docs/reference is out of date: {names}\nhint: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
