"""Language by script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.text import is_han, language, nfc


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天天气很好", "zh"),
        ("這是繁體中文", "zh"),
        ("用 GPU 训练模型", "zh"),
        ("2024年5月", "zh"),
        ("Hello, world", "en"),
        ("The word 好 means good, and it is a common word in Chinese", "en"),
        ("café naïve", "en"),
        ("我用 Python 写代码和 model 训练 very good indeed", "mixed"),
        ("The cat drinks milk. 猫喝牛奶。", "mixed"),
        ("こんにちは世界、元気ですか", "other"),
        ("東京は日本の首都です", "other"),
        ("안녕하세요 세계", "other"),
        ("Привет, мир", "other"),
        ("123 + 45 = 168", "other"),
        ("", "other"),
        ("🙂🙂", "other"),
        ("，。！？", "other"),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(text) == expected


@given(st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1))
def test_hanzi_alone_are_chinese(text: str) -> None:
    assert language(text) == "zh"
    assert all(map(is_han, text))


@given(st.text(alphabet="abcdefghij KLM,.", min_size=1).filter(lambda t: any(map(str.isalpha, t))))
def test_latin_letters_alone_are_english(text: str) -> None:
    assert language(text) == "en"


@given(st.text())
def test_nfc_is_the_standard_one_and_is_stable(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)
    assert nfc(nfc(text)) == nfc(text)


def test_nfc_keeps_what_a_reader_sees() -> None:
    assert nfc("ＡＢＣ①㈱") == "ＡＢＣ①㈱"
    assert nfc("e\u0301") == "é"
