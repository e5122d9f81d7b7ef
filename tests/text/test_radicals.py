"""Radicals become the characters that they stand for, and nothing else changes."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tongwen.text.radicals import PLAIN, plain_radicals


def test_radicals_become_characters() -> None:
    assert plain_radicals("使⽤⼜⻅⻆⻄⻓⻔⻢，⽣⾦") == "使用又见角西长门马，生金"


def test_every_assigned_radical_is_known() -> None:
    assigned = {
        code
        for code in range(0x2E80, 0x2FE0)
        if unicodedata.name(chr(code), "").startswith(("KANGXI", "CJK RADICAL"))
    }
    # U+2E80 REPEAT stands for no character.
    assert set(PLAIN) == assigned - {0x2E80}
    assert not set("".join(PLAIN.values())) & set(map(chr, assigned))


@given(st.text())
def test_nothing_else_changes(text: str) -> None:
    kept = "".join(char for char in text if not "\u2e80" <= char <= "\u2fdf")
    assert plain_radicals(kept) == kept
    assert plain_radicals("Ａ１，①㎡") == "Ａ１，①㎡"
