"""The rule `boilerplate`: lines of web sites and e-books in documents, removed.

    Project Gutenberg     what stands before *** START OF … *** and from *** END OF … *** on
    e-book sites          their notices, advertisements, and addresses written so that no filter
                          finds them: ｗＷw。xiaoshuo txt.neｔ
    web pages             lines that are nothing but navigation, cookies, copyright or an address

A line goes as a whole or stays as it is. Only documents are looked at; in a conversation such
lines were asked for.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from tongwen.cleaning.findings import Found, Place, excerpt

START: Final = re.compile(
    r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*\n", re.MULTILINE
)
END: Final = re.compile(r"^\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK", re.MULTILINE)

LONGEST: Final = 300
"""Characters of a line that may still be a notice."""
TOP_LEVEL: Final = "com|net|org|cn|cc|info|la|me|tw|top|xyz|vip"
HIDDEN_ADDRESS: Final = re.compile(rf"www[a-z0-9]{{3,40}}?(?:{TOP_LEVEL})")
W: Final = "wWｗＷ"
THREE_W: Final = re.compile(rf"^[ \t\u3000]*[{W}][ \u3000]?[{W}][ \u3000]*[{W}].*$", re.MULTILINE)
HAN_BESIDE: Final = 8
"""Hanzi that may stand beside an address in a line that is nothing else: the name of the site."""

ADDRESS_LINE: Final = re.compile(
    r"^[ \t\u3000]*(?:https?://|www\.)[!-~]+[ \t\u3000]*$", re.MULTILINE
)
HOST: Final = re.compile(rf"https?://|www\.|\b[a-z0-9-]+\.(?:{TOP_LEVEL})\b")
SITE_WORD: Final = re.compile(
    "电子书|小说|书屋|书吧|书城|书坊|文学网|最新章节|在线阅读|书评|(?i:txt)|下载|网址|版权|上传|整理|更新"
)
"""What e-book sites speak of."""
SHORT: Final = 60
"""Characters of a line with an address in which one such word makes a notice; a longer one takes
three, lest a paragraph into which an advertisement was dropped go with it."""
NOTICE: Final = re.compile(
    r"本(?:书|作品|文|电子书)(?:由|为|来自|来源于|源自)[^。！？]{0,30}"
    r"(?:整理|制作|上传|提供|首发|收集|互联网|网络)"
    r"|更多.{0,10}(?:电子书|小说|好书|书籍).{0,20}(?:下载|请|访问|登[陆录]|尽在)"
    r"|(?:小说|电子书|TXT|txt).{0,6}下载.{0,4}(?:尽在|请|就[来到])"
    r"|用户上传之?内容(?:开始|结束)"
    r"|内容版权归(?:原?作者|出版社)"
    r"|请?(?:记住|收藏)本[站书].{0,6}(?:网址|域名|地址)|天才一秒记住|手机用户请(?:浏览|访问|到|登)"
    r"|(?:最新|最快)(?:章节|更新).{0,12}(?:尽在|请[到访登])"
    r"|如(?:有|果)侵权.{0,12}(?:联系|删除)"
)
# What has matched is not matched again another way, by (?>…)++: that would take for ever.
CHINESE_PAGE: Final = re.compile(
    r"(?>首页|[上下]一[页篇章](?:[:：][^|｜\s]{0,30})?|返回(?:顶部|目录|首页|列表)|目录|登录|注册"
    r"|分享到?[:：]?.{0,20}|收藏本站|设为首页|加入收藏|打印本[页文]|关闭窗口|点击查看(?:更多|全文)"
    r"|阅读(?:全文|原文)|责任编辑[:：].{0,12}|版权所有.{0,40}|.{0,10}ICP[备证].{0,30}"
    r"|扫[一描].{0,6}二维码.{0,20}"
    r"|(?:欢迎)?关注.{0,16}公众号.{0,16}|免责声明[:：].{0,200}|[|｜·>»/\s\u3000])++"
)
PAGE: Final = re.compile(
    r"(?>(?:skip to (?:main )?content|log ?in|sign ?(?:in|up|out)|register|subscribe(?: now)?|home"
    r"|contact(?: us)?|about(?: us)?|privacy(?: policy)?"
    r"|terms(?: of (?:use|service)| and conditions)?"
    r"|cookie (?:policy|settings|preferences)|sitemap|back to top|(?:read|learn) more"
    r"|next(?: post)?"
    r"|previous(?: post)?|leave a (?:comment|reply)|share (?:this|on (?:facebook|twitter))"
    r"|accept(?: all)?(?: cookies)?|click here|add to cart|advertisement|all rights reserved"
    r"|powered by \w+|(?:copyright|\(c\)|©)[^.]{0,40}\d{4}[^.]{0,60}|loading|menu|search)"
    r"[ .|·•/>»,;:!-]*+)++",
    re.IGNORECASE,
)
COOKIES: Final = re.compile(
    r"(?:this|our|the) (?:web)?site uses cookies|we use cookies"
    r"|please enable (?:javascript|cookies)|by continuing to (?:use|browse) (?:this|our)"
    r"|javascript (?:is disabled|must be enabled)",
    re.IGNORECASE,
)
PAGE_SIGNS: Final = (
    "skip to ", "log in", "login", "sign ", "register", "subscribe", "privacy", "cookie", "sitemap",
    "back to top", "read more", "leave a ", "share ", "click here", "add to cart", "advertisement",
    "all rights", "javascript", "copyright", "©", "previous", "by continuing",
)  # fmt: skip
"""In small letters; one of them stands in every English line that goes."""
CHINESE_SIGNS: Final = tuple(
    "下载 电子书 小说 整理 上传 网址 域名 更新 首页 一页 一篇 一章 返回 版权 ICP 二维码 公众号 "
    "免责声明 责任编辑 阅读全文 阅读原文 本书 本作品 侵权 一秒记住 手机用户 收藏 章节".split()
)
"""One of them stands in every Chinese line that goes."""


def boilerplate(text: str, place: Place) -> Found | None:
    """Notices of sites in a document, removed line by line."""
    if place != "document":
        return None
    book, cut = _gutenberg(text)
    kept, lines, first = _without_lines(book)
    if not cut and not lines:
        return None
    parts = [f"{lines:,} lines of site notices"] if lines else []
    if cut:
        parts.insert(0, f"{cut:,} lines of the Project Gutenberg frame")
    return Found(", ".join(parts), first if lines and not cut else excerpt(text, 0), kept)


def _gutenberg(text: str) -> tuple[str, int]:
    """What stands between the marks of Project Gutenberg, and how many lines go."""
    if "PROJECT GUTENBERG EBOOK" not in text:
        return text, 0
    start = START.search(text)
    first = start.end() if start else 0
    end = END.search(text, first)
    last = end.start() if end else len(text)
    return text[first:last], text.count("\n", 0, first) + text.count("\n", last)


def _without_lines(text: str) -> tuple[str, int, str]:
    """The text without the lines of notices, how many there were, and the first of them."""
    spans = sorted({*_addresses(text), *_notices(text)})
    if not spans:
        return text, 0, ""
    kept, place = [], 0
    for start, end in spans:
        kept.append(text[place:start])
        place = end
    first = text[slice(*spans[0])].strip()
    return "".join([*kept, text[place:]]), len(spans), excerpt(first, 0, len(first))


def _addresses(text: str) -> list[tuple[int, int]]:
    """Spans of lines, with their ends, that are nothing but an address."""
    found = [] if "://" not in text and "www." not in text else list(ADDRESS_LINE.finditer(text))
    hidden = [match for match in THREE_W.finditer(text) if _is_hidden_address(match[0])]
    return [(match.start(), min(match.end() + 1, len(text))) for match in (*found, *hidden)]


def _is_hidden_address(line: str) -> bool:
    if len(line) > LONGEST:
        return False
    plain = unicodedata.normalize("NFKC", line).lower()
    letters = "".join(char for char in plain if char.isascii() and char.isalnum())
    han = sum("\u4e00" <= char <= "\u9fff" for char in plain)
    return han <= HAN_BESIDE and HIDDEN_ADDRESS.match(letters) is not None


def _notices(text: str) -> list[tuple[int, int]]:
    """Spans of lines, with their ends, that are notices."""
    # İ alone is longer in small letters; the places found must be those of the text.
    small = text.replace("İ", "I").lower()
    signs = [sign for sign in PAGE_SIGNS if sign in small]
    if not text.isascii():
        signs += [sign for sign in CHINESE_SIGNS if sign in text]
    spans = set()
    for sign in signs:
        place = text.find(sign) if sign in CHINESE_SIGNS else small.find(sign)
        while place >= 0:
            start = text.rfind("\n", 0, place) + 1
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            if end - start <= LONGEST and _is_notice(text[start:end].strip()):
                spans.add((start, min(end + 1, len(text))))
            place = text.find(sign, end) if sign in CHINESE_SIGNS else small.find(sign, end)
    return sorted(spans)


def _is_notice(line: str) -> bool:
    return bool(
        NOTICE.search(line)
        or _is_advertisement(line)
        or PAGE.fullmatch(line)
        or CHINESE_PAGE.fullmatch(line)
        or COOKIES.search(line)
    )


def _is_advertisement(line: str) -> bool:
    """Whether a line is about an e-book site: an address and the words of such sites."""
    if not HOST.search(line) or "](" in line:
        return False
    words = set(SITE_WORD.findall(line))
    return len(words) >= (1 if len(line) <= SHORT else 3)
