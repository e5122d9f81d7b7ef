"""The command line from outside: whole transcripts, exit codes, settings files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tongwen import cli, config
from tongwen.cli import main
from tongwen.errors import DataError
from tongwen.verbs import VERBS, Verb

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; its exit code, stdout and stderr."""

    def run_it(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run_it


@dataclass(frozen=True)
class Done:
    """A result with a path and Chinese text in it."""

    out: Path
    greeting: str = "你好"


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> list[config.PretrainConfig]:
    """What `pretrain` is called with, in place of training."""
    calls: list[config.PretrainConfig] = []

    def pretrain(settings: config.PretrainConfig) -> Done:
        calls.append(settings)
        return Done(settings.out)

    monkeypatch.setattr(Verb, "load", lambda _verb: pretrain)
    return calls


def test_the_first_page_shows_the_way_in_order(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert run() == (0, out, "")
    places = [out.index(f"\n  {verb.path} ") for verb in VERBS]
    assert places == sorted(places)
    assert max(map(len, out.splitlines())) <= 100


def test_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.strip().count(".") == 2


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.path)
def test_every_command_explains_every_setting(run: Run, verb: Verb) -> None:
    code, out, _ = run(*verb.path.split(), "--help")
    assert code == 0
    assert out.startswith(f"Usage: tongwen {verb.path}")
    assert "--json" in out
    if verb.config is not None:
        assert "--config" in out
        for name in verb.config_class().model_fields:
            assert f"--{name.replace('_', '-')}" in out


def test_defaults_are_shown_as_they_are_written(run: Run) -> None:
    _, out, _ = run("finetune", "--help")
    words = " ".join(out.replace("│", " ").split())
    for default in ("0.9 0.95", "all-linear", "false", "0.0005"):
        assert f"[default: {default}]" in words
    assert "[default: []]" not in words
    assert "None" not in words
    _, out, _ = run("config", "explain", "track")
    assert "one or more of tensorboard | wandb | swanlab | mlflow or none; default none" in out


MISTAKES = {
    "pretrian": "unknown command `pretrian`\nhint: did you mean `tongwen pretrain`?",
    "prepare x": "unknown command `prepare`\nhint: did you mean `tongwen data prepare`?",
    "data prepar": "unknown command `prepar`\nhint: did you mean `tongwen data prepare`?",
    "--json chat": "unknown option `--json` before a command\nhint: see `tongwen --help`",
    "pretrain --stesp 3": "unknown option: --stesp\nhint: did you mean --steps?",
    "pretrain --steps x": 'invalid value for --steps: unable to convert "x" into int\n'
    "hint: see `tongwen pretrain --help`",
    "pretrain --size 7m": 'invalid value "7m" for --size\n'
    'hint: choose from: "1m", "5m", "25m", "135m", "350m", "1b"',
    "chat --model m extra": "unexpected argument `extra`\nhint: see `tongwen chat --help`",
    "pretrain --data d --out r --warmup 1": "--warmup should be less than 1, not 1.0\n"
    "hint: --warmup: share of the steps in which the learning rate rises",
    "pretrain --out r --steps -3": "--steps should be greater than 0, not -3; missing --data\n"
    "hint: --data: prepared folders, or files and folders of rows, which are prepared first; "
    "--steps: optimiser steps; without it the steps follow from `epochs`",
    "config explain sed": "no command has a setting `sed`\nhint: did you mean `seed`?",
    "config schema pretrian": "no command `pretrian` with settings\nhint: did you mean `pretrain`?",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line_and_a_hint(run: Run, words: str) -> None:
    assert run(*words.split()) == (2, "", f"error: {MISTAKES[words]}\n")


def test_flags_and_file_say_the_same_and_flags_win(
    run: Run, pretrained: list[config.PretrainConfig], tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = ["a", "b"]\nout = "r"\nsteps = 7\nsize = "1m"\n', encoding="utf-8-sig")
    assert run("pretrain", "--config", file, "--steps", 9)[0] == 0
    flags = ["--data", "a", "b", "--out", "r", "--steps", "9", "--size", "1m"]
    assert run("pretrain", *flags)[0] == 0
    assert run("pretrain", "--data", "a", "--data", "b", *flags[3:])[0] == 0
    expected = config.PretrainConfig(data=[Path("a"), Path("b")], out=Path("r"), steps=9, size="1m")
    assert pretrained == [expected] * 3


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("stesp = 3", "unknown key `stesp` in {file}", "did you mean `steps`?"),
        (
            "batch-tokens = 3",
            "unknown key `batch-tokens` in {file}",
            "did you mean `batch_tokens`?",
        ),
        (
            "[pretrain]\nsteps = 3",
            "unknown key `pretrain` in {file}",
            "known keys: `allow_inexact`",
        ),
        ('data = "d"', "`data` in {file} should be a valid list, not 'd'", "--data: prepared"),
        (
            'data = ["d"]\nsteps = 0',
            "`steps` in {file} should be greater than 0, not 0",
            "--steps: optimiser",
        ),
        ("steps = ", "{file} is not valid TOML: ", "write `key = value`"),
        ("# 名".encode("gb18030"), "{file} is not UTF-8 text", "save the file as UTF-8"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(
    run: Run, tmp_path: Path, text: str | bytes, error: str, hint: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    code, out, err = run("pretrain", "--out", "r", "--config", file)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0].startswith("error: " + error.format(file=file))
    assert lines[1].startswith("hint: " + hint)
    assert len(lines) == 2


def test_a_settings_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    expected = f"error: cannot read {file}: No such file or directory\n"
    assert run("chat", "--config", file) == (2, "", expected)


@pytest.mark.usefixtures("pretrained")
def test_json_is_the_last_line(run: Run) -> None:
    code, out, _ = run("pretrain", "--data", "d", "--out", "r", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == {"out": "r", "greeting": "你好"}
    assert "你好" in out
    code, out, _ = run("pretrain", "--data", "d", "--out", "r")
    assert json.loads(out) == {"out": "r", "greeting": "你好"}


def test_results_with_words_of_their_own(run: Run) -> None:
    code, out, _ = run("config", "explain", "--batch-tokens")
    assert code == 0
    assert "pretrain, finetune, align, forecast: integer > 0; default 8192" in out
    code, out, _ = run("config", "schema", "data", "prepare", "--json")
    assert code == 0
    assert json.loads(out)["required"] == ["sources", "out"]
    assert run("config", "schema", "data prepare", "--json")[1] == out


def test_text_that_looks_like_a_flag_or_standard_input(run: Run) -> None:
    for text in ("-", "-1 + 1 = ?", "--no"):
        request = _parsed("chat", "--model", "m", "--prompt", text)
        assert request["prompt"] == text
    assert _parsed("chat", "--model", "m", "--temperature", "0.5")["temperature"] == 0.5
    assert run("chat", "--prompt", "x")[0] == 2


def _parsed(*words: str) -> dict[str, object]:
    from tongwen.arguments import parse

    request = parse(list(words))
    assert request is not None
    return request.values


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (DataError("`x` is empty", "give rows"), 2, "error: `x` is empty\nhint: give rows\n"),
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: /x: Permission denied\n"),
    ],
)
def test_how_a_command_ends(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, shown: str
) -> None:
    def fail(_words: list[str]) -> None:
        raise raised

    monkeypatch.setattr(cli, "_run", fail)
    assert run("chat") == (code, "", shown)


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_words: list[str]) -> None:
        raise AssertionError("ours")

    monkeypatch.setattr(cli, "_run", fail)
    with pytest.raises(AssertionError, match="ours"):
        main(["chat"])


def test_a_closed_pipe_is_not_an_error() -> None:
    command = f"{sys.executable} -m tongwen --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_shell_completion(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tongwen", "--install-completion", "--shell", "bash"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scripts = [path for path in tmp_path.rglob("*") if path.name == "tongwen"]
    assert len(scripts) == 1
    assert "--batch-tokens" in scripts[0].read_text(encoding="utf-8")
