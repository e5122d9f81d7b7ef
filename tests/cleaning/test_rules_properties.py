"""What holds for every number and every text: check digits, and wrong encodings undone."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tongwen.cleaning.mojibake import mojibake
from tongwen.cleaning.personal import (
    Datum,
    Personal,
    is_bank_card,
    is_identity_card,
    mask,
    personal_data,
)

DIGITS = "0123456789"


@st.composite
def identity_cards(draw: st.DrawFn) -> str:
    division = draw(st.sampled_from(["110101", "310104", "440305", "510107", "650102"]))
    born = draw(st.dates(date(1920, 1, 1), date(2019, 12, 31)))
    number = f"{division}{born:%Y%m%d}{draw(st.integers(0, 999)):03}"
    # ISO 7064 MOD 11-2 in its recursive form: not the table of weights that the rule uses.
    rest = 0
    for digit in number:
        rest = (rest + int(digit)) * 2 % 11
    return number + "0123456789X"[(12 - rest) % 11]


@st.composite
def bank_cards(draw: st.DrawFn) -> str:
    prefix, size = draw(
        st.sampled_from([("62", 19), ("62", 16), ("4", 16), ("51", 16), ("34", 15)])
    )
    count = size - 1 - len(prefix)
    body = prefix + draw(st.text(st.sampled_from(DIGITS), min_size=count, max_size=count))
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return body + str(-total % 10)


def changed(draw: st.DrawFn, number: str) -> str:
    """The number with one of its digits another one."""
    place = draw(st.integers(0, len(number) - 1))
    other = draw(st.sampled_from([digit for digit in DIGITS if digit != number[place]]))
    return number[:place] + other + number[place + 1 :]


@st.composite
def mistaken(draw: st.DrawFn, numbers: st.SearchStrategy[str]) -> str:
    return changed(draw, draw(numbers))


def kinds(text: str) -> list[str]:
    return [datum.kind for datum in personal_data(text)]


@given(identity_cards())
def test_identity_cards_are_found(number: str) -> None:
    assert is_identity_card(number)
    assert kinds(f"身份证号{number}，请核对") == ["identity card"]
    assert kinds(f"id {number.lower()}.") == ["identity card"]


@given(mistaken(identity_cards()))
def test_an_identity_card_with_a_wrong_digit_is_none(number: str) -> None:
    assert not is_identity_card(number)
    assert "identity card" not in kinds(f"身份证号{number}，请核对")


def test_the_example_of_the_standard() -> None:
    assert is_identity_card("11010519491231002X")
    assert is_identity_card("440524188001010014") is False  # born in 1880
    assert not is_identity_card("110105194912310021")
    assert not is_identity_card("110105194902310026")


@given(bank_cards(), st.sampled_from(["", " ", "-"]))
def test_bank_cards_are_found(number: str, gap: str) -> None:
    assume(not is_identity_card(number))
    grouped = gap.join(number[i : i + 4] for i in range(0, len(number), 4))
    assert is_bank_card(number)
    assert kinds(f"卡号 {grouped}。") == ["bank card"]


@given(mistaken(bank_cards()))
def test_a_bank_card_with_a_wrong_digit_is_none(number: str) -> None:
    assert not is_bank_card(number)
    assert "bank card" not in kinds(f"卡号 {number}。")


@pytest.mark.parametrize(
    "text",
    [
        "请打13812345678找我",
        "手机+86 138 1234 5678",
        "138-1234-5678",
        "总机 010-62345678",
        "(0755) 23456789",
        "客服400-810-8888",
        "电话：62345678",
        "call +1-984-182-0190 today",
        "(212) 555-0142",
        "phone: 699 956 915",
    ],
)
def test_phone_numbers(text: str) -> None:
    assert kinds(text) == ["phone"]


@pytest.mark.parametrize(
    "text",
    [
        "12812345678",
        "圆周率3.14159265358979",
        "订单20231231123456789",
        "2017-09-19 15:31:42",
        "手机 商品编号3726830",
        "1,381,234,567 people",
        "192.168.100.200",
        "ISBN 978-7-302-51105-0",
        "a@b",
        "version 10.15.7",
        "https://example.com/13812345678/x",
    ],
)
def test_other_numbers(text: str) -> None:
    assert kinds(text) == []


def test_masks_follow_the_language() -> None:
    chinese = "邮箱zhang.san@example.com，电话13812345678，完。"
    assert mask(chinese, list(personal_data(chinese))) == "邮箱[邮箱]，电话[电话]，完。"
    english = "Mail a.b@example.org or call (212) 555-0142."
    assert mask(english, list(personal_data(english))) == "Mail [EMAIL] or call [PHONE]."
    assert next(personal_data("a@b.cn")) == Datum(0, 6, "e-mail")


@pytest.mark.parametrize("action", ["keep", "mask", "drop"])
def test_examples_never_show_what_was_found(action: str) -> None:
    found = Personal(action)("我的手机号是13812345678", "user")  # type: ignore[arg-type]
    assert found is not None
    assert "13812345678" not in found.example
    assert found.drop == (action == "drop")


HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5)
CHINESE = st.text(st.one_of(HAN, st.sampled_from("，。！？、；：“”《》\n 3aA")), min_size=4)
ENGLISH = st.text(st.sampled_from("abcdefghij XYZ.,;!\n“”‘’—…éèüñ€£"), min_size=4)
CODECS = st.sampled_from(["latin-1", "cp1252", "gb18030"])


@given(st.one_of(CHINESE, ENGLISH), CODECS)
def test_utf8_in_a_wrong_encoding_is_repaired(text: str, codec: str) -> None:
    try:
        spoiled = text.encode("utf-8").decode(codec)
    except UnicodeDecodeError:
        assume(False)
    # Chance must be ruled out on every line: see the limits of the rule.
    assume(all(line.isascii() or sum(c > "\u07ff" for c in line) >= 4 for line in text.split("\n")))
    found = mojibake(spoiled, "document")
    if text.isascii():
        assert found is None
    else:
        assert found is not None
        assert found.mended == text


@given(
    st.text(st.sampled_from("abc é“”’—ñü\n"), min_size=1), st.sampled_from(["latin-1", "cp1252"])
)
def test_one_accent_is_enough_in_western_encodings(text: str, codec: str) -> None:
    assume(not text.isascii())
    try:
        spoiled = text.encode("utf-8").decode(codec)
    except UnicodeDecodeError:
        assume(False)
    found = mojibake(spoiled, "document")
    assert found is not None
    assert found.mended == text


def test_gbk_in_a_western_encoding_and_twice_spoiled() -> None:
    text = "今天我们来看一下这个问题的几个方面，大家都知道学习是一件很重要的事情。"
    found = mojibake(text.encode("gbk").decode("latin-1"), "document")
    assert found is not None
    assert found.mended == text
    once = text.encode("utf-8").decode("latin-1")
    found = mojibake(once.encode("utf-8").decode("latin-1"), "document")
    assert found is not None
    assert found.mended == text


def test_a_line_that_is_spoiled_in_part_is_noted() -> None:
    found = mojibake("好的，ä½\xa0å¥½，谢谢", "document")
    assert found is not None
    assert found.mended is None
    assert not found.drop


@pytest.mark.parametrize("text", ["锟斤拷锟斤拷", "caf\ufffd", "\ufffd" * 9])
def test_lost_characters_drop_a_short_text(text: str) -> None:
    found = mojibake(text, "document")
    assert found is not None
    assert found.drop


def test_a_few_lost_characters_are_noted() -> None:
    found = mojibake("一\ufffd" + "好文章" * 1000, "document")
    assert found is not None
    assert not found.drop
    assert mojibake("the sign `\ufffd` stands for what is lost", "document") is None


@pytest.mark.parametrize("text", ["his protégé—”", "é——", "Ça va? «Non», dit-il: “oui”."])
def test_sound_western_text_is_left_alone(text: str) -> None:
    assert mojibake(text, "document") is None


@given(CHINESE)
def test_sound_chinese_is_left_alone(text: str) -> None:
    found = mojibake(text, "document")
    assert found is None or found.mended is None
