"""The documentation says what is so: links, commands, names; marked blocks run.

A block opened with ```` ```sh run ```` is run by the slow test, file by file, in a folder where the
quickstart has been taught in a tiny form; `TINY` makes the training commands short. Every other
`tongwen` command in a block is parsed and its settings are checked, but it is not run.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import tongwen
from tongwen.arguments import parse
from tongwen.settings import settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TINY = {
    "quickstart": ["--scale", "0.01"],
    "pretrain": ["--steps", "5"],
    "finetune": ["--steps", "3"],
    "align": ["--steps", "3"],
}
FENCE = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, whether it is run, its text."""

    language: str
    runnable: bool
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        language, _, mark = match["kind"].strip().partition(" ")
        assert mark in ("", "run"), f"{page}: unknown mark {mark!r}"
        found.append(Block(language, mark == "run", match["text"]))
    return found


def commands(text: str) -> list[list[str]]:
    """The words of every `tongwen …` command in a shell block, here-documents left out."""
    text = re.sub(r"<<'END'\n.*?^END$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
        lexer.whitespace_split = True
        current: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|;&<>"):
                if current[:1] == ["tongwen"]:
                    found.append(current[1:])
                current = []
            else:
                current.append(word)
    return found


COMMANDS = [
    (page, words)
    for page in PAGES
    for block in blocks(page)
    if block.language == "sh"
    for words in commands(block.text)
]
RUNNABLE = [page for page in PAGES if any(block.runnable for block in blocks(page))]
RUNNABLE = [page for page in RUNNABLE if page.name != "README.zh.md"]


def test_there_is_something_to_check() -> None:
    assert len(PAGES) >= 12
    assert len(COMMANDS) >= 20
    assert len(RUNNABLE) >= 4


def test_both_readmes_have_the_same_blocks() -> None:
    assert blocks(ROOT / "README.md") == blocks(ROOT / "README.zh.md")


def test_both_readmes_have_the_same_structure() -> None:
    def outline(page: Path) -> list[int]:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]

    assert outline(ROOT / "README.md") == outline(ROOT / "README.zh.md")


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: str(value)[-60:])
def test_every_command_can_be_meant(page: Path, words: list[str]) -> None:
    request = parse(words)
    assert request is not None, page
    if request.verb.config is not None and request.file is None:
        settings(request.verb.config_class(), request.values)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_every_page_is_reachable_from_the_index() -> None:
    folder = ROOT / "docs"
    index = (folder / "README.md").read_text(encoding="utf-8")
    for page in folder.rglob("*.md"):
        name = page.relative_to(folder)
        listed = f"({name.as_posix()})" in index or name.parts[0] == "decisions"
        assert listed or name == Path("README.md"), f"docs/README.md does not list {name}"


def test_python_blocks_use_public_names() -> None:
    texts = [block.text for page in PAGES for block in blocks(page) if block.language == "python"]
    assert texts
    for text in texts:
        compile(text, "block", "exec")
        assert set(re.findall(r"tongwen\.(\w+)", text)) <= set(tongwen.__all__)


def test_the_reference_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["pages"]()
    assert len(made) == 2
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"


SHIM = """\
#!{python}
import sys
import tongwen.cli
words = sys.argv[1:]
for flag, value in zip(*[iter({tiny}.get(words[0], []))] * 2):
    if flag in words:
        words[words.index(flag) + 1] = value
    else:
        words += [flag, value]
sys.exit(tongwen.cli.main(words))
"""


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `tongwen` is the tiny form of the command."""
    folder = tmp_path_factory.mktemp("bin")
    shim = folder / "tongwen"
    shim.write_text(SHIM.format(python=sys.executable, tiny=TINY), encoding="utf-8")
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    paths = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    return {**os.environ, **paths, "PYTHONUTF8": "1"}


@pytest.fixture(scope="session")
def taught(shell: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quickstart in its tiny form."""
    folder = tmp_path_factory.mktemp("taught")
    subprocess.run(["tongwen", "quickstart"], cwd=folder, env=shell, check=True)
    return folder / "quickstart"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_marked_blocks_run(page: Path, taught: Path, shell: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(taught, tmp_path / "quickstart")
    script = "\n".join(block.text for block in blocks(page) if block.runnable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=shell,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
