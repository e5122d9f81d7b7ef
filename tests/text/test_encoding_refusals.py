"""Encodings of random Chinese text: named rightly or refused, never named wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.text import decode, detect_encoding

SIMPLIFIED = (
    "清晨的市场里人声很响，卖菜的老人把白菜一棵一棵摆好，对来买的人说：“今天的菜都是新的。”"
    "我们在门口等了一会儿，看见学生们从学校里出来，有的走路回家，有的坐车去图书馆看书。"
)
TRADITIONAL = (
    "清晨的市場裡人聲很響，賣菜的老人把白菜一棵一棵擺好，對來買的人說：「今天的菜都是新的。」"
    "我們在門口等了一會兒，看見學生們從學校裡出來，有的走路回家，有的坐車去圖書館看書。"
)
# The common Hanzi of both standards, in the order of their code points there.
GB2312 = [bytes([a, b]).decode("gb2312") for a in range(0xB0, 0xD7) for b in range(0xA1, 0xFF)]
BIG5 = [
    bytes([a, b]).decode("big5")
    for a in range(0xA4, 0xC6)
    for b in [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
]
SIGNS = st.sampled_from("，。！？“”：；（）《》\n0123456789 ")
CODECS = {"gb18030": GB2312, "big5": BIG5}


def named(data: bytes) -> str | None:
    """The codec, or None where the bytes are refused with something to do about it."""
    try:
        return detect_encoding(data)
    except DataError as error:
        return None if error.hint else "refused without a hint"


@pytest.mark.parametrize("codec", CODECS)
@given(data=st.data())
def test_random_hanzi_are_never_named_wrongly(codec: str, data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from(CODECS[codec]) | SIGNS))
    encoded = text.encode(codec, "ignore")
    if not text.isascii():
        assert named(encoded) in (codec, None)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@given(text=st.text(st.sampled_from(GB2312 + BIG5) | SIGNS, min_size=8))
def test_random_hanzi_in_utf_16_are_never_named_wrongly(codec: str, text: str) -> None:
    encoded = text.encode(codec)
    if not encoded.isascii():
        assert named(encoded) in (codec, None)


@pytest.mark.parametrize("codec", ["gb18030", "big5", "utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize("prose", [SIMPLIFIED, TRADITIONAL], ids=["simplified", "traditional"])
@given(data=st.data())
def test_passages_of_prose(prose: str, codec: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(prose)))
    start = data.draw(st.integers(0, len(prose) - size))
    encoded = prose[start : start + size].encode(codec, "ignore")
    found = named(encoded)
    if not encoded.isascii():
        assert found in (codec, None)
    if size >= 30 and (codec != "big5" or prose is TRADITIONAL):
        assert found == codec


@pytest.mark.parametrize(
    ("text", "codecs"),
    [
        ("Le café de l'été était très agréable, déjà près du château.", "latin-1 cp1252 mac_roman"),
        ("Größe, Übung, schöne Grüße aus München und Köln für alle.", "latin-1 cp850"),
        (
            "Съешь же ещё этих мягких французских булок да выпей чаю.",
            "cp1251 koi8-r iso8859-5 cp866",
        ),
        (
            "吾輩は猫である。名前はまだ無い。どこで生れたか見当がつかぬ。",
            "shift_jis euc_jp iso2022_jp_2",
        ),
        ("日本国民は正当に選挙された代表者を通じて行動し、平和を求める。", "shift_jis euc_jp"),
        (
            "모든 국민은 인간으로서의 존엄과 가치를 가지며 행복을 추구할 권리를 가진다.",
            "euc_kr johab",
        ),
        ("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι.", "iso8859-7 cp1253"),
        ("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน", "tis-620"),
        ("يولد جميع الناس أحرارا متساوين في الكرامة والحقوق", "cp1256 iso8859-6"),
        ("כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם", "cp1255"),
    ],
)
@pytest.mark.parametrize("times", [1, 40])
def test_other_encodings_are_refused(text: str, codecs: str, times: int) -> None:
    for codec in codecs.split():
        assert named((text + "\n").encode(codec, "ignore") * times) is None, codec


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106",
        bytes(range(1, 32)),
        bytes(64),
        "\ufeff你好".encode("utf-32-le"),
        "\ufeff你好".encode("utf-32-be"),
        b"caf\xe9",
        "模".encode("gbk"),
        "模".encode("gbk") + b"\r\n",
        "你好".encode("gbk"),
        "你好".encode("big5"),
        "·".encode(),
        ("你好，" * 30).encode("gbk") + b"\xff",
        ("你好，" * 30).encode("utf-16-le") + b"\0",
        "的的的的的的的的".encode("gbk"),
    ],
)
def test_binary_and_ambiguous_bytes_are_refused(data: bytes) -> None:
    assert named(data) is None


@given(st.binary())
def test_random_bytes_never_raise_another_error(data: bytes) -> None:
    if named(data) is not None:
        assert decode(data) is not None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], min_codepoint=0x800), min_size=1))
def test_utf8_with_longer_characters_is_certain(text: str) -> None:
    assert detect_encoding(text.encode()) == ("utf-8-sig" if text[0] == "\ufeff" else "utf-8")


@pytest.mark.parametrize("text", ["café", "naïve résumé", "Привет, мир!", "Ελληνικά γράμματα"])
def test_utf8_in_other_alphabets(text: str) -> None:
    assert detect_encoding(text.encode()) == "utf-8"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_the_mark_decides_and_is_not_text(codec: str, text: str) -> None:
    if codec == "utf-8-sig" or not text.startswith("\0"):
        assert decode(text.encode(codec)) == text


def test_a_mark_that_lies_is_refused() -> None:
    for data in (b"\xff\xfe\x00", b"\xef\xbb\xbfgood \xff"):
        with pytest.raises(DataError, match=r"byte order mark|not valid utf-8-sig"):
            decode(data)


def test_hanzi_that_windows_adds_to_big5() -> None:
    text = TRADITIONAL + "恒裏"
    assert decode(text.encode("cp950")) == text


def test_real_texts_in_every_encoding(shared_data: Path) -> None:
    novels = shared_data / "pretrain/zh/novel"
    legacy = (novels / "李鸿章传_梁启超.gbk.txt").read_bytes()
    assert detect_encoding(legacy) == "gb18030"
    assert decode(legacy).encode("gb18030") == legacy
    marked = (novels / "朱自清大全集.txt").read_bytes()
    assert detect_encoding(marked) == "utf-8-sig"
    text = decode(marked)
    assert text[0] != "\ufeff"
    for codec in ("gb18030", "utf-16-le", "utf-16-be", "utf-8"):
        assert detect_encoding(text.encode(codec)) == codec
