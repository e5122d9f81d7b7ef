"""The rule `leaks`: marks of a prompt template inside a message, where only words belong.

A model that learns such answers stops late, asks itself the next question, or prints the marks. A
leak is one of

    control marks       <|im_start|>, [INST], <<SYS>>, </s>, <eos>, <reserved_102>, <|eot_id|>, …
    headings            ### Instruction:   ### Response:   ### 指令：   ### 回答：
    the next example    10. Instruction: …, as left behind by Self-Instruct
    a dialogue          a line that begins with Human: and one that begins with Assistant:
    placeholders        <noinput>, < no output >, [No input]
    the preamble        Below is an instruction that describes a task

Three of them can be cut with certainty: headings before the first word, control marks and
placeholders behind the last one, and the next example, to the end.

Documents are not looked at: they may speak of templates; see the rule `instructions`.
"""

from __future__ import annotations

import re
from typing import Final

from tongwen.cleaning.findings import Found, Place, excerpt

CHAT_MARK: Final = (
    r"<\|(?:im_start|im_end|im_sep|end_of_text|begin_of_text|start_header_id|end_header_id|eot_id"
    r"|eom_id|user|assistant|system|end|endofprompt|startofpiece|endofpiece|observation)\|>"
    r"|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?(?:unused|reserved_)\d+>|\breserved_\d+\b"
    r"|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>"
)
# These stand in texts about language models too; <s> … </s> within a line strikes out in HTML.
END_MARK: Final = r"</s>(?=\s*$|<s>)|\A\s*<s>(?!.*</s>)|<(?:eos|bos|sop|eop)>|<\|endoftext\|>"
CONTROL: Final = f"{CHAT_MARK}|{END_MARK}"
PLACEHOLDER: Final = r"(?i:(?:[<\[]|&lt;) ?no ?(?:in|out)put ?(?:[>\]]|&gt;))"
HEADING: Final = (
    r"#{2,4} ?(?:(?i:Instructions?|Response|Input|Output|Human|Assistant|User|System)"
    r"|指令|回答|回复|输入|输出|问题|用户|助手) ?[:：]"
)
NEXT_EXAMPLE: Final = r"^[# ]*\d{1,2}\. ?Instruction:"
PREAMBLE: Final = (
    r"Below is an instruction that describes a task|A chat between a curious (?:user|human) and an"
    r"|下面是一个?描述任务的指令|以下是一个?描述任务的指令"
)
HUMAN: Final = re.compile(r"^(?:Human|HUMAN|USER|人类) ?[:：]", re.MULTILINE)
ASSISTANT: Final = re.compile(r"^(?:Assistant|ASSISTANT|助手) ?[:：]", re.MULTILINE)
LEAK: Final = re.compile(
    f"{CONTROL}|{PLACEHOLDER}|{HEADING}|{NEXT_EXAMPLE}|{PREAMBLE}", re.MULTILINE
)
SIGNS: Final = ("<", "[", "&lt;", "##", "eserved_", "Instruction:", "Below", "A chat", "下")
"""One of them stands in every text with a leak, but for dialogues."""

HEAD: Final = re.compile(rf"\s*(?:{HEADING}\s*)+")
NEXT: Final = re.compile(NEXT_EXAMPLE, re.MULTILINE)
MARK: Final = re.compile(f"{CONTROL}|{PLACEHOLDER}", re.MULTILINE | re.DOTALL)


class Leaks:
    """Template text in messages: dropped, or cut where that is certain."""

    def __init__(self, *, mend: bool) -> None:
        self._mend = mend

    def __call__(self, text: str, place: Place) -> Found | None:
        if place == "document":
            return None
        match = _leak(text)
        if match is None:
            return None
        detail = f"template text in the {place}'s message: {' '.join(match[0].split())}"
        example = excerpt(text, *match.span())
        mended = _cut(text) if self._mend else None
        return Found(detail, example, mended, drop=mended is None)


def _leak(text: str) -> re.Match[str] | None:
    if any(sign in text for sign in SIGNS) and (match := LEAK.search(text)):
        return match
    human = HUMAN.search(text) if ":" in text or "：" in text else None
    return human if human and ASSISTANT.search(text) else None


def _cut(text: str) -> str | None:
    """The text without its leaks; None if some are not where a cut is certain."""
    if head := HEAD.match(text):
        text = text[head.end() :]
    following = NEXT.search(text)
    text = _without_marks(text) if following is None else _before(text[: following.start()])
    return None if _leak(text) else text


def _before(text: str) -> str:
    """The text without the lines at its end that hold nothing but `#` and blanks."""
    places = range(len(text), 0, -1)
    last = next((at for at in places if text[at - 1] != "#" and not text[at - 1].isspace()), 0)
    return text[: text.find("\n", last)].rstrip() if last else ""


def _without_marks(text: str) -> str:
    """The text without control marks and placeholders at its end; as it is where none stands."""
    end = len(text)
    for mark in reversed(list(MARK.finditer(text))):
        if text[mark.end() : end].strip():
            break
        end = mark.start()
    return text if end == len(text) else text[:end].rstrip()
