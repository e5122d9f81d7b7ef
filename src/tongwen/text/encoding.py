"""Which encoding a text is in: certain, or refused.

    utf-8  utf-8-sig    valid UTF-8, without and with its byte order mark
    utf-16              with its mark; utf-16-le and utf-16-be without, where only one reads as text
    gb18030             and with it GBK and GB2312
    big5                or cp950, for the characters that Windows adds

A wrong guess turns a corpus into mojibake without a word. So bytes without a mark that are not
UTF-8 get a name only when they decode completely and encode back to the same bytes, what they say
is made of common Chinese (or, in UTF-16, of plain English), no other reading comes near, and, for
GB18030 and Big5, chardet agrees. Everything else is refused.

Limits: the data are one whole text in memory. A legacy text needs about six Hanzi to be recognised,
and one in rare characters (a list of names) is refused at any length. Valid UTF-8 is taken at its
word wherever it holds a character of three bytes or more, or more ASCII letters than others; so one
or two GBK Hanzi among Latin letters (as much as the é of café), or under six Hanzi of UTF-16 whose
bytes are all ASCII, count as UTF-8.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from tongwen.errors import DataError
from tongwen.text.language import is_han

MARKS: Final = (
    (codecs.BOM_UTF32_LE, None),
    (codecs.BOM_UTF32_BE, None),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 comes first, since its little-endian mark begins like that of UTF-16."""
UTF_16: Final = ("utf-16-le", "utf-16-be")
LEGACY: Final = (("gb18030",), ("big5", "cp950"))

# The 300 commonest Hanzi of modern and classical prose, news and laws, in both scripts: about 60 %
# of such text, 8 % of Hanzi drawn evenly from the common ones of either standard.
COMMON: Final = frozenset(
    "的一不是人了子以在为之个大我上说这下中来也可和用他时要道到国就出后而行于数天三者能得如传十其会好自小将曰"
    "语生去王多都们过所第里那分公家成对法论作与开二没还列事入方前么年很新你定地见面据篇现使只然点无发物看太当问"
    "此节相机军书心或高性间本主同起集病等世度样文经政长水着进工做意学两果明又因常何知日实从加吴重手七正种处回马"
    "最但理并合孟路记民内应感史五章次表言些四孙先儿比观量君百动原关便情别代老通张至全想体头力则孔卷接条外身已兵"
    "句安位制被把女志任今却山化己直流门部白平特放听打才员口取万少及再西非真提金更东德电程变题结计每给期服区色必"
    "什边名话解周算贞像城复受由质死官操即权单油吃信务义且车食树向难月需火父"
    "為爲個說這來時國後於數傳會將語們過裏裡對論與開沒還麼見據現點無發當問節機軍書間樣經長進學兩實從吳種處馬併"
    "記內應孫兒觀動關別張體頭則條卻門聽員萬東電變題結計給區邊話貞復質權單務義車樹難著她您"
)
ENOUGH_HAN: Final = 6
ENOUGH_COMMON: Final = 3
"""Different common Hanzi that a Chinese text holds at least."""
CHINESE: Final = 0.25
"""Share of common Hanzi from which a reading is Chinese: 20 Hanzi of prose seldom have less."""
POSSIBLE: Final = 0.12
"""Share from which a rival reading cannot be ruled out."""
STRANGE: Final = 0.05
"""Characters per Hanzi that have no place in Chinese text; Greek in a formula is no fault."""
ENOUGH_ENGLISH: Final = 6
SAMPLE: Final = 1 << 16
"""Characters on which a reading is judged; that it is possible at all is tested on the whole."""

CONTROL: Final = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
PRIVATE: Final = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
LONG_UTF8: Final = re.compile("[\u0800-\U0010ffff]")
CHINESE_SIGNS: Final = re.compile("[\u2010-\u2642\u3000-\u303f\uff01-\uff5e\uffe0-\uffe5·×÷°±§¨]")
ENGLISH: Final = re.compile("[A-Za-z0-9 .,;:!?'\"()\n\r\t-]")

ISO_2022: Final = b"\x1b$"
"""Begins the Hanzi of ISO-2022-JP, -CN and -KR, which are ASCII bytes."""

HINT: Final = "save the file as UTF-8"


def detect_encoding(data: bytes) -> str:
    """The Python codec of `data`; a DataError where it is not certain.

    UTF-8 may be the head of a text that was cut inside a character.
    """
    for mark, codec in MARKS:
        if data.startswith(mark):
            if codec is None:
                raise DataError("the text is in UTF-32, which is not read", HINT)
            if codec == "utf-16" and _decoded(data, codec) is None:
                raise DataError("the byte order mark says UTF-16, the bytes do not", HINT)
            return codec
    text = _utf8(data)
    if text is not None and b"\0" not in data:
        return _checked_utf8(data, text)
    found = [codec for codec in UTF_16 if _is_utf16(data, codec)]
    if b"\0" not in data:
        found += _legacy(data)
    if len(found) == 1:
        return found[0]
    if b"\0" in data:
        raise DataError("the bytes hold NUL and are not UTF-16 text", "is this a text file at all?")
    raise DataError("the encoding is not UTF-8, and no other is certain", HINT)


def decode(data: bytes) -> str:
    """The text, without its byte order mark; a DataError where the encoding is not certain."""
    codec = detect_encoding(data)
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} is not valid {codec}", HINT) from None


def _decoded(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _utf8(data: bytes) -> str | None:
    """The text; a character cut off at the end is no fault behind a long one that is whole."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return None
    # Without that, the é at the end of a Latin-1 text would look like the beginning of a Hanzi.
    return text if LONG_UTF8.search(text) else _decoded(data, "utf-8")


def _reading(data: bytes, codec: str) -> str | None:
    """What the bytes say in a codec, if it is printable and encodes back to the same bytes."""
    text = _decoded(data, codec)
    if text is None or CONTROL.search(text) or PRIVATE.search(text) or text.encode(codec) != data:
        return None
    return text


def _checked_utf8(data: bytes, text: str) -> str:
    """UTF-8, unless the bytes are hardly text or might be a short text in another encoding."""
    if len(CONTROL.findall(text[:SAMPLE])) * 10 > len(text[:SAMPLE]):
        raise DataError("the bytes are control characters, not text", "is this a text file at all?")
    if ISO_2022 in data:
        raise DataError("the text switches character sets as ISO 2022 does", HINT)
    head = data[:SAMPLE]
    rivals: list[str] = []
    if text.isascii():
        rivals += [codec for codec in UTF_16 if _is_utf16(head, codec)]
    elif not LONG_UTF8.search(text):
        rivals += [family[0] for family in LEGACY if _may_be_chinese(data, family[0])]
    if rivals:
        raise DataError(f"the text may be in UTF-8 or in {' or '.join(rivals)}", HINT)
    return "utf-8"


def _may_be_chinese(data: bytes, codec: str) -> bool:
    """Whether valid UTF-8 could as well be Chinese in a legacy encoding."""
    text = _reading(data, codec)
    if text is None:
        return False
    han = sum(map(is_han, text[:SAMPLE]))
    if sum(char.isascii() and char.isalpha() for char in text[:SAMPLE]) >= han:
        return False  # accented letters among plain ones, as in café
    return han < ENOUGH_HAN or _chinese(text) >= POSSIBLE


def _is_utf16(data: bytes, codec: str) -> bool:
    """Whether bytes without a mark read as Chinese or English in one byte order."""
    text = _reading(data, codec)
    if text is None:
        return False
    sample = text[:SAMPLE]
    english = len(ENGLISH.findall(sample))
    if english >= ENOUGH_ENGLISH and english > 0.8 * len(sample):
        return True
    return _chinese(text) >= CHINESE


def _legacy(data: bytes) -> list[str]:
    """The one legacy codec in which the bytes are Chinese, or none."""
    scores: dict[str, float] = {}
    for family in LEGACY:
        readings = ((codec, _reading(data, codec)) for codec in family)
        codec, text = next(((c, t) for c, t in readings if t is not None), ("", None))
        if text is not None:
            scores[codec] = _chinese(text)
    likely = [codec for codec, score in scores.items() if score >= POSSIBLE]
    if len(likely) != 1 or scores[likely[0]] < CHINESE or not _chardet_agrees(data, likely[0]):
        return []
    return likely


def _chardet_agrees(data: bytes, codec: str) -> bool:
    import chardet  # a big module, wanted only for the files that are not UTF-8

    name = chardet.detect(data, prefer_superset=True, compat_names=False)["encoding"] or ""
    family = {"gb18030": ("gb",), "big5": ("big5", "cp950"), "cp950": ("big5", "cp950")}[codec]
    return name.lower().startswith(family)


def _chinese(text: str) -> float:
    """The share of common ones among the Hanzi; 0 where the text can hardly be Chinese."""
    sample = text[:SAMPLE]
    han = [char for char in sample if is_han(char)]
    common = [char for char in han if char in COMMON]
    if len(han) < ENOUGH_HAN or len(set(common)) < ENOUGH_COMMON:
        return 0.0
    signs = sum(not char.isascii() for char in CHINESE_SIGNS.sub("", sample)) - len(han)
    return len(common) / len(han) if signs <= STRANGE * len(han) else 0.0
