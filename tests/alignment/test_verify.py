"""Rewards that are verified: which answers are the same, and what a number is."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.alignment.numbers import last_number
from tongwen.alignment.verify import normalised, reward_of, same_number, within

from .test_pairs import settings


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 42.", 42),
        ("共有1,234,567人", 1234567),
        ("一共 3.5万 元", 35000),
        ("1亿2000万", 120_000_000),
        ("约为－３．５度", Fraction(-7, 2)),
        ("答案是三百二十", 320),
        ("三千零五", 3005),
        ("十二万三千", 123_000),
        ("二〇二四", 2024),
        ("负十五", -15),
        ("三万亿", 3 * 10**12),
        ("答案是12，一起加油", 12),
        ("40%", Fraction(2, 5)),
        ("from 3 to 5 apples", 5),
        ("3-5", 5),
        ("x = -5", -5),
        ("1,2,3", 3),
        ("#### 72", 72),
        ("v1.2.3 is no number, 4 is", 4),
        ("none here", None),
    ],
)
def test_the_last_number(text: str, number: Fraction | None) -> None:
    assert last_number(text) == number


@given(st.integers(-(10**15), 10**15))
def test_every_number_is_read_as_it_is_written(number: int) -> None:
    assert last_number(f"it is {number}.") == last_number(f"共{number:,}个") == number


@given(st.integers(1, 99_999_999))
def test_chinese_numerals_are_read_as_they_are_written(number: int) -> None:
    assert last_number(spelled(number)) == number


def spelled(number: int) -> str:
    """A number below a hundred million in Chinese."""
    if number >= 10**4:
        high, low = divmod(number, 10**4)
        gap = "零" if 0 < low < 1000 else ""
        return spelled(high) + "万" + (gap + spelled(low) if low else "")
    text, zero = "", False
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, unit)
        if digit:
            text += ("零" if zero and text else "") + "零一二三四五六七八九"[digit] + name
            zero = False
        else:
            zero = True
    return text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Paris.", "paris"),
        ("  The  Answer ", "the answer"),
        ("北京 。", "北京"),
        ("ＡＢＣ", "abc"),
        ("“是的！”", "是的"),
        ("3.14", "3.14"),
    ],
)
def test_the_same_answer(left: str, right: str) -> None:
    assert normalised(left) == normalised(right)


@pytest.mark.parametrize(("left", "right"), [("3.14", "314"), ("-5", "5"), ("50%", "50")])
def test_another_answer(left: str, right: str) -> None:
    assert normalised(left) != normalised(right)


def test_rewards_by_name() -> None:
    config = settings(
        "grpo",
        verify=["exact", "contains", "number", "format", "length"],
        verify_format="<a>.*</a>",
        verify_length=10,
        verify_weights=[1, 1, 1, 1, 4],
    )
    reward = reward_of(config)
    assert reward("7", "7") == pytest.approx((1 + 1 + 1 + 0 + 4) / 8)
    assert reward("<a>\n7 </a>", "7") == pytest.approx((0 + 1 + 1 + 1 + 4) / 8)
    assert reward("x" * 15, "7") == pytest.approx(4 * 0.5 / 8)
    assert same_number("it is seven", "seven") == 0.0
    assert [within("x" * n, 4) for n in (0, 4, 6, 8, 20)] == [1.0, 1.0, 0.5, 0.0, 0.0]


def test_punctuation_is_compared_where_it_is_all() -> None:
    exact = reward_of(settings("grpo", verify=["exact"]))
    contains = reward_of(settings("grpo", verify=["contains"]))
    assert [exact(answer, "++") for answer in (" ++\n", "--", "7")] == [1.0, 0.0, 0.0]
    assert [contains(answer, "++") for answer in ("i++;", "i--;")] == [1.0, 0.0]
