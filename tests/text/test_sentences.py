"""Sentences of Chinese and English: where they end, where they do not, and that nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.text import sentence_spans, sentences

# A bar stands wherever a sentence ends.
CASES = [
    # Chinese
    "今天下雨。|我没带伞！|你呢？|我也没有；|那就等吧。",
    "“你来了！”|他笑着说。",
    "他说：“走吧。”|我们就走了。",
    "「好。」|她点头。|『真的？』|真的。",
    "（他没有来。）|我们先开始。",
    "【注意！】|请排队。",
    "《你好！》|是一首歌。",
    "“真的吗？”，他问。",
    "“为什么？！”|没人回答。",
    "太好了！！！|走。",
    "他想了很久……|最后还是走了。",
    "我…我不知道。",
    "“我不知道……”|她低下头。",
    "圆周率约为3.14，不是3.15。|记住了。",
    "版本2.0.1发布了。|请升级。",
    "请打开https://example.com/a?b=1&c=2.html查看。|谢谢。",
    "文件data.v1.txt在这里。|请看。",
    "第一行没有句号\n|第二行也没有\n|第三行",
    "他走了。\n\n　　|她也走了。",
    "他走了。　|她也走了。",
    "我用Python.|它很好用。",
    "你好!|我很好。",
    "你好吗?|我很好.",
    '他说:"走。"|我说:"来。"',
    '我走了。|"来吧。"|他说。',
    "1.打开文件。|2.保存。",
    "我住在U.S.的东部。|很远。",
    "他得了3.5分！|真高。",
    "价格是￥3.50；|不贵。",
    "（见图3。）|图4同。",
    "真的吗？。|走！？",
    # English
    "It rains. |I have no umbrella! |Do you? |No.",
    "Dr. Smith met Mr. Jones and Mrs. Lee. |They talked.",
    "Use a name, e.g. Tom, i.e. a short one. |Good.",
    "He lives in the U.S. and works there. |It is far.",
    "He moved to the U.S. |It was far.",
    "The U.S. Army came. |It left.",
    "See No. 5 and Fig. 3 for this. |Then go on.",
    "No. |I will not.",
    "Smith vs. Jones is a case. |It is old.",
    "J. K. Rowling wrote it. |J. R. R. Tolkien did not.",
    "Pi is 3.14 and not 3.15. |Remember.",
    "It costs $3.50. |That is cheap.",
    "Wait... what? |Nothing.",
    "Wait... |What is it?",
    "Open example.com or a/b.txt?c=1 now. |Thanks.",
    'She said "Stop!" and ran. |He stood.',
    '"Stop!" he said. |She ran.',
    '"Stop." |She ran.',
    "“I know.” |He left. |‘Why?’ |No one knew.",
    "(It was late.) |We left.",
    "He left (it was late). |We stayed.",
    "What?! |No!",
    "Yahoo! is a firm. |It is old.",
    "We met at 5 p.m. |The sun was low.",
    "Apples, pears, etc. are fruit. |I like them.",
    "Acme Inc. builds rockets. |They fly.",
    "1. First do this. |2. Then do that.",
    "It was 1999. |The year ended.",
    "It is I. |He knew.",
    "call f.read() and x.y. |Then stop.",
    "One line\n|another line\r\n|a third",
    "  It begins with blanks. |Then ends.  ",
    # Both
    "我喜欢Dr. Who。|It is fun. |你呢？",
    "他说Hello! |然后走了。",
    "GPT-4.5很强。|But it is slow. |是吗？",
]


@pytest.mark.parametrize("case", CASES)
def test_sentences_end_at_the_bars(case: str) -> None:
    assert sentences(case.replace("|", "")) == case.split("|")


@pytest.mark.parametrize(
    ("text", "spans"),
    [("", []), (" \n ", [(0, 3)]), ("\n好。\n", [(0, 4)]), ("没有句号", [(0, 4)])],
)
def test_spans_of_little_texts(text: str, spans: list[tuple[int, int]]) -> None:
    assert sentence_spans(text) == spans


PARTS = st.sampled_from(
    list("。！？；…，.!?,:;\"'“”‘’（）()[]「」 \n\r\t\u3000aA我1")
    + ["Dr.", "3.14", "U.S.", "……", "...", "No."]
)


@given(st.lists(PARTS).map("".join) | st.text())
def test_spans_cover_the_text_without_gaps(text: str) -> None:
    spans = sentence_spans(text)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert "".join(sentences(text)) == text
    assert all(start < end for start, end in spans)
    blank = [text[start:end].isspace() for start, end in spans]
    assert not any(blank) or len(spans) == 1


@given(st.lists(PARTS).map("".join))
def test_lines_do_not_share_a_sentence(text: str) -> None:
    for sentence in sentences(text):
        assert len(sentence.strip().splitlines()) <= 1


@pytest.mark.parametrize(
    "unit",
    ["a.", ".", " ", "\n", '"', 'a."', "。”", "a \t", "(aaaaaaaaaaaaaaaaaaaaaaaa). ", "U.S. "],
)
def test_time_grows_with_the_length_only(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    begin = time.perf_counter()
    assert "".join(sentences(text)) == text
    assert time.perf_counter() - begin < 5


def test_real_prose(shared_data: Path) -> None:
    text = (shared_data / "pretrain/zh/novel/三国演义.txt").read_text(encoding="utf-8-sig")
    found = sentences(text)
    assert "".join(found) == text
    assert len(found) > 20_000
    assert not [sentence for sentence in found if sentence[0] in "”’」』】》）。！？；"]
