"""Rewards that can be verified: functions of an answer and of the one in the data, from 0 to 1."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from tongwen.alignment.numbers import last_number
from tongwen.config import AlignConfig

Reward = Callable[[str, str], float]
"""An answer and the one in the data → from 0 to 1."""

# Punctuation; a point and a minus belong to the number they stand in.
BETWEEN: Final = re.compile(r"(?!(?<=\d)\.(?=\d)|-(?=\d)|%)[\W_]+")
BESIDE_HAN: Final = re.compile(r"(?<=[\u3400-\u9fff]) | (?=[\u3400-\u9fff])")


def reward_of(config: AlignConfig) -> Reward:
    """The weighted mean of the rewards that the settings name."""
    weights = config.verify_weights or [1.0] * len(config.verify)
    verifiers = [_verifier(name, config) for name in config.verify]

    def reward(answer: str, truth: str) -> float:
        scores = [verifier(answer, truth) for verifier in verifiers]
        return sum(w * score for w, score in zip(weights, scores, strict=True)) / sum(weights)

    return reward


def _verifier(name: str, config: AlignConfig) -> Reward:
    match name:
        case "exact":
            return lambda answer, truth: float(operator.eq(*_comparable(answer, truth)))
        case "contains":
            return lambda answer, truth: float(operator.contains(*_comparable(answer, truth)))
        case "number":
            return same_number
        case "format":
            return _format(config.verify_format or "")
        case _:
            return lambda answer, _: within(answer, config.verify_length)


def normalised(text: str) -> str:
    """Without what does not matter: case, width, punctuation, blanks beside Chinese characters."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return BESIDE_HAN.sub("", BETWEEN.sub(" ", plain).strip())


def _comparable(answer: str, truth: str) -> tuple[str, str]:
    """Both normalised; as they are where nothing would be left of the one in the data."""
    wanted = normalised(truth)
    return (normalised(answer), wanted) if wanted else (answer.strip(), truth.strip())


def same_number(answer: str, truth: str) -> float:
    """Whether the last number of both is the same; 0 where the data's answer has none."""
    wanted = last_number(truth)
    return float(wanted is not None and last_number(answer) == wanted)


def within(answer: str, most: int) -> float:
    """1 up to `most` characters, falling to 0 at twice as many."""
    return min(1.0, max(0.0, 2 - len(answer) / most))


def _format(pattern: str) -> Reward:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda answer, _: float(compiled.fullmatch(answer.strip()) is not None)
