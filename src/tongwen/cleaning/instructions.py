"""The rule `instructions`: documents that are tasks with answers, for a “pure” corpus.

A model of pure text shows what instructions in a corpus do (Index-1.9B-Pure was trained to show
it). A document is instruction-like if it has

    a template      the marks of a prompt, as the rule `leaks` knows them, or “Below is an …”
    questions       two or more lines that begin with Question:/Q:/问： each with an answer after it
    examination     two or more questions with choices A to D, or one with its answer
    a task          a first line that bids a reader do something (“Write a story …”, 请翻译下面…)
                    or asks a question, with an answer in the lines below

A task is looked for in short documents only: a book that begins with a question is a book.

Limits: heuristics for corpora of web and books. A manual that bids its reader (“Install the
package.”) and interviews printed as Q: and A: look the same as instructions.
"""

from __future__ import annotations

import re
from typing import Final

from tongwen.cleaning.findings import Found, Place, excerpt
from tongwen.cleaning.leaks import CHAT_MARK, HEADING, NEXT_EXAMPLE, PREAMBLE

TEMPLATE: Final = re.compile(f"{CHAT_MARK}|{HEADING}|{NEXT_EXAMPLE}|{PREAMBLE}", re.MULTILINE)
QUESTION: Final = re.compile(
    r"^[ \t\u3000]*(?:Question|Q|问题?|提问|Human|User|Instruction|指令) ?\d{0,3} ?[:：]",
    re.MULTILINE,
)
ANSWER: Final = re.compile(
    r"^[ \t\u3000]*(?:Answer|A|答案?|回答|Assistant|Response|Output) ?\d{0,3} ?[:：]", re.MULTILINE
)
CHOICES: Final = re.compile(
    r"\(?A[.、．):：]\s?\S[^\n]{0,200}?\s\(?B[.、．):：]\s?\S.{0,400}?\s\(?C[.、．):：]\s?\S"
    r".{0,400}?\s\(?D[.、．):：]\s?\S",
    re.DOTALL,
)
KEY: Final = re.compile(r"(?:答案|Answer|Correct answer)(?:是|为| is)? ?[:：]? ?[（(]?[A-D]\b")
ENOUGH: Final = 2

TASK_LONGEST: Final = 4000
"""Characters of a document that may be one task with its answer."""
ASKED_LONGEST: Final = 1500
"""Characters of one that may be a question with its answer; above it is an article with a title."""
LINE_LONGEST: Final = 400
VERBS: Final = (
    "adapt|add|alter|analy[sz]e|answer|arrange|assign|brainstorm|calculate|categori[sz]e|change"
    "|choose|classify|combine|come up with|compare|compile|compose|compute|construct|convert"
    "|correct|count|create|cut|debate|decide|define|delete|describe|design|detect|determine"
    "|develop|devise|discuss|divide|edit|estimate|evaluate|explain|express|extract|fill in|find"
    "|formulate|generate|give|group|identify|imagine|improve|infer|insert|invent|list|look up"
    "|make|match|modify|name|organi[sz]e|outline|output|paraphrase|perform|pick|point out"
    "|predict|prepare|produce|propose|provide|put|rank|rearrange|remove|render|reorder|rephrase"
    "|replace|resolve|reverse|reword|re-?write|select|simplify|solve|sort|split|state|suggest"
    "|summari[sz]e|take|tell|transcribe|transform|translate|turn|use|validate|write"
)
TASK: Final = re.compile(
    rf"(?:please |can you |could you )?(?:{VERBS})\b (?:me |us |up |in |out )?"
    r"(?:a|an|the|this|these|that|two|three|four|five|six|ten|\d+|some|any|each|all|one|whether|if|how"
    r"|why|what|which|about|your|following|given|another|it|['\"“])(?:\b|(?<=['\"“]))"
    r"|given (?:a|an|the|two|three|that)\b[^.\n]{3,200}[,:.] ?\w",
    re.IGNORECASE,
)
ASKED: Final = re.compile(
    r"(?:what|who|which|when|where|how|why|is|are|can|do|does) [^.!?\n]{4,300}\?$", re.IGNORECASE
)
CHINESE_VERBS: Final = (
    "生成|创建|创造|设计|编写|撰写|提供|提出|给出|列出|列举|写出|举出|描述|解释|阐述|总结|概括"
    "|概述|翻译|改写|重写|分析|比较|计算(?!机)|推荐|判断|分类|识别|辨别|确定|创作|构造|构建"
    "|编辑|制作|制定|说明|讨论|评估|查找|找出|找到|说出|想出|建议|建立|优化|修改|纠正|完成|填写"
    "|预测|输出|输入|帮我|告诉我|命名|转换|转录|模拟|组织|编一|写一|写下|举例"
)
CHINESE_TASK: Final = re.compile(
    r"请(?!注意|参[考阅见]|[参见]|勿)"
    r"|[写列给举找说指想]出?[一几两三四五六七八九十\d]+[个篇首段条种句份件项]"
    rf"|(?:{CHINESE_VERBS})[^。\n]{{0,60}}(?:[的一以两三四五\d]|下[面列]|给定|这|该)[^。\n]{{0,200}}"
    r"|[将把对用以从在为给][^。\n]{0,40}(?:改写|重写|转换|翻译|分类|描述|写|生成|替换|排序|概括|总结)[^。\n]{0,100}[。：:]?$"
    r"|(?:根据|使用|基于)(?:以下|下[面列]|给定|这[个些段句篇]|该|提供)"
)
CHINESE_ASKED: Final = re.compile(r"(?=.*[\u4e00-\u9fff])[^。！？?\n]{2,100}[？?]$")
TITLE: Final = re.compile(r"[#=*\[<|《【]|第[一二三四五六七八九十百\d]+[章节回条]")
"""How the first lines of documents begin that have titles of their own."""


def instructions(text: str, place: Place) -> Found | None:
    """Documents that are tasks with answers."""
    if place != "document":
        return None
    found = _template(text) or _examination(text) or _task(text)
    if found is None:
        return None
    what, match = found
    return Found(f"instruction-like: {what}", excerpt(text, *match.span()), drop=True)


def _template(text: str) -> tuple[str, re.Match[str]] | None:
    match = TEMPLATE.search(text)
    return ("marks of a prompt template", match) if match else None


def _examination(text: str) -> tuple[str, re.Match[str]] | None:
    questions, answers = list(QUESTION.finditer(text)), len(ANSWER.findall(text))
    if min(len(questions), answers) >= ENOUGH:
        return "questions with answers", questions[0]
    choices = list(CHOICES.finditer(text)) if "A" in text and "D" in text else []
    if len(choices) >= ENOUGH or (choices and KEY.search(text)):
        return "questions with choices", choices[0]
    return None


def _task(text: str) -> tuple[str, re.Match[str]] | None:
    """A first line that is a task or a question, with something below it."""
    line, _, rest = text.lstrip().partition("\n")
    line = line.rstrip()
    if len(text) > TASK_LONGEST or len(line) > LINE_LONGEST or not rest.strip():
        return None
    if TITLE.match(line):
        return None
    if match := TASK.match(line) or CHINESE_TASK.match(line):
        return "a task and its answer", match
    if len(text) > ASKED_LONGEST:
        return None
    match = ASKED.match(line) or CHINESE_ASKED.match(line)
    return ("a question and its answer", match) if match else None
