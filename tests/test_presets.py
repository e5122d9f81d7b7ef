"""The recipes of the systems before: valid, and with their own rates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tongwen import FinetuneConfig, PretrainConfig
from tongwen.cli import main
from tongwen.errors import ConfigError
from tongwen.settings import config_presets, preset
from tongwen.train.schedule import learning_rate

NAMES = [one.name for one in config_presets().presets]
COMMANDS = {one.name: one.command for one in config_presets().presets}


def configured(name: str, **changes: Any) -> FinetuneConfig | PretrainConfig:
    values = {**preset(name), "data": [Path("d")], "out": Path("r"), **changes}
    if COMMANDS[name] == "finetune":
        return FinetuneConfig(**{"model": Path("m"), **values})
    return PretrainConfig(**values)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_valid_for_its_command_and_says_what_it_is(name: str) -> None:
    assert configured(name)
    (found,) = (one for one in config_presets().presets if one.name == name)
    assert found.command in ("pretrain", "finetune")
    assert found.text.endswith(".")


def test_a_preset_is_taken_by_its_name_and_flags_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "nothing"
    assert main(["finetune", "--config", "vicuna-chat", "--model", str(model), "--data", "d",
                 "--out", str(tmp_path / "r")]) == 2  # fmt: skip
    assert "no model at" in capsys.readouterr().err
    assert main(["finetune", "--config", "vicuna-chatt", "--model", "m", "--data", "d"]) == 2
    assert "did you mean the preset `vicuna-chat`?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no preset `vicuna-chatt`") as caught:
        preset("vicuna-chatt")
    assert caught.value.hint == "did you mean `vicuna-chat`?"


def test_rates_are_those_of_the_recipes() -> None:
    vicuna = configured("vicuna-instruct")
    assert 3e-4 * learning_rate(99, 16_000, vicuna) == pytest.approx(3e-4)
    assert learning_rate(49, 16_000, vicuna) == pytest.approx(0.5)
    assert learning_rate(8_050, 16_000, vicuna) == pytest.approx(0.5, abs=1e-4)
    index = configured("index-wsd")
    decay = round(7000 * 0.142857)
    assert learning_rate(100, 7000, index) == learning_rate(7000 - decay, 7000, index) == 1.0
    assert learning_rate(7000 - 1, 7000, index) == pytest.approx(0.01, abs=2e-3)
    lora = configured("index-lora")
    middle = learning_rate(510, 1000, lora)
    assert middle == pytest.approx(0.5 * (1 + math.cos(math.pi * 490 / 980)), abs=1e-3)
    qlora = configured("knowlm-qlora")
    assert {learning_rate(step, 1000, qlora) for step in (0, 1, 500, 999)} == {1.0}
