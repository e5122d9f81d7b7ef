"""Every recipe runs, in a tiny form, with its own settings files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tongwen.cli import main
from tongwen.lessons import Course

RECIPES = sorted(path.parent for path in Path(__file__).parents[1].glob("recipes/*/run.sh"))
# What makes a stage short; everything else is the recipe's.
TINY = {
    "tokenizer train": ["--vocab-size", "500"],
    "pretrain": ["--size", "1m", "--steps", "2", "--batch-tokens", "600"],
    "finetune": ["--steps", "2", "--batch-tokens", "600"],
    "chat": ["--max-new-tokens", "5"],
}
STAGE = re.compile(r"tongwen ((?:[^\n]|(?<=\\)\n)+)")


def stages(script: str, data: Path, out: Path, recipe: Path) -> list[list[str]]:
    """The commands of a recipe, with its variables filled in."""
    values = {"$data": str(data), "$out": str(out), "$recipe": str(recipe)}
    found = []
    for match in STAGE.finditer(script):
        words = re.findall(r'"[^"]*"|[^\s"\\]+', match[1])
        for name, value in values.items():
            words = [word.strip('"').replace(name, value) for word in words]
        found.append(words)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little text and a few instructions."""
    folder = tmp_path_factory.mktemp("data")
    course = Course(0)
    for name, rows in (("text", course.readings(150)), ("instructions", course.exercises(400))):
        (folder / name).mkdir()
        lines = [json.dumps(row.item.to_record(), ensure_ascii=False) + "\n" for row in rows]
        (folder / name / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_runs(
    recipe: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (recipe / "run.sh").read_text(encoding="utf-8")
    commands = stages(script, data, tmp_path / "out", recipe)
    assert len(commands) == script.count("tongwen ")
    used = {word for words in commands for word in words if word.endswith(".toml")}
    assert used == {str(path) for path in recipe.glob("*.toml")}, "a settings file is not used"
    for words in commands:
        verb = next((name for name in TINY if " ".join(words).startswith(name)), "")
        code = main([*words, *TINY.get(verb, [])])
        assert code == 0, capsys.readouterr().err


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 1
