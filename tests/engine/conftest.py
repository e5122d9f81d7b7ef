"""A random model whose tokens are bytes: what it says is often not UTF-8."""

from __future__ import annotations

from pathlib import Path

import pytest

from tongwen.engine import load_engine
from tongwen.engine.local import LocalEngine
from tongwen.testing import tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> LocalEngine:
    return load_engine(model_folder)
