"""Generation: one protocol, and the engine of this machine (`load_engine`, which loads torch)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tongwen.engine.protocol import Engine, Finish, Generation, Sampling, Token

if TYPE_CHECKING:
    from pathlib import Path

    from tongwen.config import Device
    from tongwen.engine.candidates import BestOf
    from tongwen.engine.local import LocalEngine

__all__ = ["Engine", "Finish", "Generation", "Sampling", "Token", "best_of", "load_engine"]


def load_engine(folder: Path, device: Device = "auto") -> LocalEngine:
    """The engine over a model or run folder, on a device."""
    from tongwen.engine.local import load_engine as load

    return load(folder, device)


def best_of(engine: LocalEngine, reward: Path, count: int) -> BestOf:
    """The engine that gives the best of `count` answers by the reward model of a folder."""
    from tongwen.engine.candidates import best_of as best

    return best(engine, reward, count)
