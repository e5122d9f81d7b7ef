"""The shape of the code: who may import whom, what is public, how large a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tongwen
from tongwen.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tongwen"
FILES = sorted(SOURCE.rglob("*.py"))

# Lowest first; a module imports from its own line and the lines above it. The verbs and the lazy
# names in `tongwen/__init__.py` refer upwards by name, never by import.
LAYERS = (
    ("charts", "errors", "files", "progress", "text"),
    ("config", "verbs"),
    ("settings",),
    ("messages",),
    ("tokenizer", "sources", "cleaning"),
    ("data", "lessons"),
    ("native",),
    ("models",),
    ("engine",),
    ("testing", "train"),
    ("alignment",),
    ("replays",),
    ("forecasts",),
    ("retrieve",),
    ("apps",),
    ("evals",),
    ("serve",),
    ("course",),
    ("arguments",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = ("torch", "transformers", "tokenizers", "numpy")
TYPES = {"Conversation", "Message"}
MAX_LINES = 400


def part(path: Path) -> str:
    """The package or module directly under `tongwen` that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "tongwen":
                yield from (f"tongwen.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 15


def test_every_part_has_a_layer() -> None:
    assert {part(path) for path in FILES} - {"__init__"} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    if part(path) == "__init__":
        return
    for module in imports(path):
        top, _, rest = module.partition(".")
        name = rest.partition(".")[0]
        if top == "tongwen" and name not in {"", "__version__", *tongwen.__all__}:
            assert LEVEL[name] <= LEVEL[part(path)], f"{module} stands above {part(path)}"


def test_applications_see_models_only_through_the_engine() -> None:
    paths = [path for path in FILES if part(path) == "apps"]
    assert paths
    forbidden = {"torch", "transformers", "tongwen.models", "tongwen.train", "tongwen.serve"}
    for path in paths:
        for module in imports(path):
            assert not {module, module.partition(".")[0], ".".join(module.split(".")[:2])} & (
                forbidden
            ), f"{path.name} imports {module}"


def test_public_names_are_verbs_configs_errors_and_two_types() -> None:
    verbs = {verb.function for verb in VERBS}
    configs = {verb.config for verb in VERBS if verb.config is not None}
    errors = {
        node.name
        for node in ast.parse((SOURCE / "errors.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    assert set(tongwen.__all__) == verbs | configs | errors | TYPES
    assert tongwen.__all__ == sorted(tongwen.__all__)


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(shown) == set(tongwen.__all__)
    homes = {verb.function: verb.home for verb in VERBS}
    assert {name: shown[name] for name in homes} == homes


@pytest.mark.parametrize("name", tongwen.__all__)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    assert getattr(tongwen, name).__doc__


def test_no_public_name_is_a_submodule() -> None:
    parts = {part(path) for path in FILES}
    assert not parts & set(tongwen.__all__)


@pytest.mark.parametrize("words", [["--help"], ["pretrain", "--help"], ["config", "explain", "lr"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys, tongwen.cli\n"
        f"assert tongwen.cli.main({words}) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_are_readable_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"


def test_nothing_is_left_for_later() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b")
    paths = {*FILES, *(ROOT / "tests").rglob("*.py")} - {Path(__file__).resolve()}
    left = [path for path in paths if marks.search(path.read_text(encoding="utf-8"))]
    assert left == []


def test_no_code_from_models_is_ever_run() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("trust_remote_code") == text.count("trust_remote_code=False"), path
        assert not {"pickle", "dill", "joblib"} & set(imports(path)), path
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) == "torch.load":
                keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert keywords.get("weights_only") == "True", f"{path}: torch.load"


def test_text_is_opened_as_utf8() -> None:
    for path in FILES:
        for call in (
            node
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ):
            if call.func.attr in ("read_text", "write_text"):  # type: ignore[attr-defined]
                assert "encoding" in {word.arg for word in call.keywords}, f"{path}:{call.lineno}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_pins_everything_and_names_no_place(lock: str) -> None:
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert "torch==2.13.0" in pins
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9a-z.]+", pin) for pin in pins)
    assert not any(pin.startswith(("nvidia", "triton")) for pin in pins)
