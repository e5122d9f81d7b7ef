"""Encodings: the right one or none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.text import decode, detect_encoding

SIMPLIFIED = (
    "今天我们来看一下这个问题的几个方面，大家都知道学习是一件很重要的事情，所以要从小开始。"
    "他说他不会来了，因为家里还有别的事情没有做完，等明天再说吧。"
)
TRADITIONAL = (
    "今天我們來看一下這個問題的幾個方面，大家都知道學習是一件很重要的事情，所以要從小開始。"
    "他說他不會來了，因為家裡還有別的事情沒有做完，等明天再說吧。"
)


@pytest.mark.parametrize(
    ("text", "codec", "expected"),
    [
        (SIMPLIFIED, "utf-8", "utf-8"),
        (SIMPLIFIED, "utf-8-sig", "utf-8-sig"),
        (SIMPLIFIED, "utf-16", "utf-16"),
        (SIMPLIFIED, "utf-16-le", "utf-16-le"),
        (SIMPLIFIED, "utf-16-be", "utf-16-be"),
        ("Plain English text, no accents.", "utf-16-le", "utf-16-le"),
        (SIMPLIFIED, "gbk", "gb18030"),
        (SIMPLIFIED + "龘㐀𠀀", "gb18030", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        ("Plain ASCII.", "ascii", "utf-8"),
        ("", "utf-8", "utf-8"),
        ("name: 中文\n" * 3 + SIMPLIFIED, "gbk", "gb18030"),
    ],
)
def test_known_encodings(text: str, codec: str, expected: str) -> None:
    data = text.encode(codec)
    assert detect_encoding(data) == expected
    assert decode(data) == text


@pytest.mark.parametrize(
    "data",
    [
        "naïve café déjà vu, où êtes-vous? Ça va bien, merci.".encode("latin-1"),
        "Привет, как дела? Это русский текст в старой кодировке.".encode("cp1251"),
        "こんにちは、これは日本語の文章です。元気ですか。".encode("shift_jis"),
        "안녕하세요 이것은 한국어 문장입니다".encode("euc-kr"),
        bytes(range(256)),
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00",
        b"text with a \x00 in it, in plain ASCII",
        "中".encode("gbk"),
        b"\xff\xfe\xfd",
        b"abc\x80def",
    ],
)
def test_what_is_not_certain_is_refused(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        detect_encoding(data)
    assert caught.value.hint


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs", "Cn"])))
def test_utf8_with_a_long_character_is_always_recognised(text: str) -> None:
    text = f"，{text}"
    assert detect_encoding(text.encode()) == "utf-8"
    assert decode(text.encode()) == text


@given(cut=st.integers(1, 200))
def test_the_head_of_a_file_is_enough(cut: int) -> None:
    data = (SIMPLIFIED * 3).encode("utf-8")
    assert detect_encoding(data[: 60 + cut]) == "utf-8"


@pytest.fixture(scope="module")
def novel(shared_data: Path) -> str:
    """Three hundred thousand words of classical prose."""
    return (shared_data / "pretrain/zh/novel/三国演义.txt").read_text(encoding="utf-8")


@settings(max_examples=200)
@given(
    place=st.floats(0, 1),
    length=st.integers(20, 300),
    codec=st.sampled_from(["gb18030", "big5", "utf-16-le", "utf-8"]),
)
def test_random_passages_are_named_rightly_or_refused(
    place: float, length: int, codec: str, novel: str
) -> None:
    start = int(place * (len(novel) - 300))
    passage = novel[start : start + length]
    encoded = passage.encode(codec, errors="ignore")
    try:
        assert detect_encoding(encoded) == codec
    except DataError:
        assert codec != "utf-8"


def test_real_files(shared_data: Path) -> None:
    novels = shared_data / "pretrain/zh/novel"
    legacy = (novels / "李鸿章传_梁启超.gbk.txt").read_bytes()
    assert detect_encoding(legacy) == "gb18030"
    assert decode(legacy).count("李鸿章") > 100
    assert detect_encoding((novels / "朱自清大全集.txt").read_bytes()[:4097]) == "utf-8-sig"
