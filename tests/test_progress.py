"""Progress where stderr is no terminal: few lines, and the last one always."""

from __future__ import annotations

import pytest

from tongwen.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (75.2, "1:15"), (3600, "1:00:00"), (-3, "0:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("pretrain", 10) as progress:
        for step in range(1, 11):
            progress.advance(step, loss="1.234", MFU="30%")
        progress.talk("step 10: done")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ("step 10: done\npretrain  10/10  loss 1.234  MFU 30%  0:00 left\n")
