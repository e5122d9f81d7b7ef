"""Configurations: frozen, strict, and the same in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tongwen import PretrainConfig
from tongwen.verbs import VERBS


@given(
    name=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    lr=st.floats(1e-12, 1e3),
    steps=st.integers(1, 10**9),
)
def test_toml_says_the_same(name: str, lr: float, steps: int) -> None:
    config = PretrainConfig(data=[Path("数据"), Path(name)], out=Path(name), lr=lr, steps=steps)
    assert PretrainConfig(**tomllib.loads(config.toml())) == config


def test_unknown_keys_and_changes_are_refused() -> None:
    with pytest.raises(ValidationError, match="lrr"):
        PretrainConfig(data=[Path("d")], out=Path("o"), lrr=1.0)  # type: ignore[call-arg]
    config = PretrainConfig(data=[Path("d")], out=Path("o"))
    with pytest.raises(ValidationError, match="frozen"):
        config.lr = 1.0


def test_every_field_is_documented() -> None:
    for verb in VERBS:
        if verb.config is not None:
            for name, field in verb.config_class().model_fields.items():
                assert field.description, f"{verb.config}.{name}"
                assert field.description.endswith("."), f"{verb.config}.{name}"
