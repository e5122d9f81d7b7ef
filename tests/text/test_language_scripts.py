"""Languages: scripts that look alike, code, and real text."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tongwen.text import is_han, language


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("東京大学の学生", "other"),
        ("日本国憲法の解釈", "other"),
        ("カタカナ", "other"),
        ("这家“优の良品”的点心很好吃，我们昨天在商店里买了很多，大家都喜欢", "zh"),
        ("请把apple翻译成中文", "zh"),
        ("阿尔贝·加缪·卡夫卡", "zh"),
        ("Translate 苹果树下的人 into English please", "mixed"),
        ("GDP grew 3.2% in 2024 vs 2.9% in 2023.", "en"),
        ("Ελληνικά", "other"),
        ("שלום עולם", "other"),
        ("for i in range(10): print(i)", "other"),
        ("def f(x):\n    return x + 1\n", "other"),
        ("if (a < b) { return a; }", "other"),
        ('{"name": "Tom", "age": 3}', "other"),
        ("https://example.com/a/b?c=1", "other"),
        ("Use this function:\n```\nfor (i = 0; i < n; ++i) { f(x[i]); }\n```\nIt is fast.", "en"),
        ("用下面的函数：\n```\nfor (i = 0; i < n; ++i) { f(x[i]); }\n```\n它很快。", "zh"),
        ("# A *bold* heading\n\nand [a link](https://example.com/x) in the text.", "en"),
        ("x = 1", "other"),
    ],
)
def test_scripts_and_code(text: str, expected: str) -> None:
    assert language(text) == expected


def test_han() -> None:
    assert all(map(is_han, "一龘㐀𠀀〇豈"))
    assert not any(map(is_han, "aあア가。Я1 "))


@pytest.mark.parametrize("unit", ["`", "$", "<a", "a", "a@", "<", "```\n", "a-", "a."])
def test_time_grows_with_the_length_only(unit: str) -> None:
    begin = time.perf_counter()
    language(unit * (200_000 // len(unit)))
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("zh/novel/三国演义.txt", "zh"), ("en/tinyshakespeare.txt", "en")],
)
def test_real_lines(shared_data: Path, name: str, expected: str) -> None:
    text = (shared_data / "pretrain" / name).read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()][:3000]
    right = sum(language(line) == expected for line in lines)
    assert right >= 0.995 * len(lines)
