"""The eight skills of the lessons: each draws one question with its answer.

A skill is a function (rng, language) → `Draw`. The key of a draw names its content and nothing of
its wording or language, so that holding out keys holds out whole contents: a sum that is in the
exam is in no training item, neither the other way round nor in the other language.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, NamedTuple, TypeVar

from tongwen.lessons import words

Tongue = Literal["zh", "en"]
T = TypeVar("T")


class Draw(NamedTuple):
    """A question, its only right answer, and the key of its content."""

    key: str
    question: str
    answer: str


def _pick(rng: Random, tongue: Tongue, zh: Sequence[T], en: Sequence[T]) -> T:
    return rng.choice(zh if tongue == "zh" else en)


def person(rng: Random, tongue: Tongue) -> str:
    """A name: surname and given name in Chinese, first name in English."""
    if tongue == "zh":
        return rng.choice(words.SURNAMES) + rng.choice(words.GIVEN_NAMES)
    return rng.choice(words.FIRST_NAMES)


def people(rng: Random, tongue: Tongue, count: int) -> list[str]:
    """Names that have no part in common."""
    if tongue == "en":
        return rng.sample(words.FIRST_NAMES, count)
    surnames, given = rng.sample(words.SURNAMES, count), rng.sample(words.GIVEN_NAMES, count)
    return [a + b for a, b in zip(surnames, given, strict=True)]


def sentence(rng: Random) -> words.Pair:
    """A composed sentence in both languages."""
    time, place = rng.choice(words.TIMES), rng.choice(words.PLACES)
    subject, verb = rng.choice(words.SUBJECTS), rng.choice(words.VERBS)
    adjective, noun = rng.choice(words.ADJECTIVES), rng.choice(words.NOUNS)
    zh = f"{time.zh}{subject.zh}{place.zh}{verb.zh}一{noun.measure}{adjective.zh}{noun.zh}。"
    article = "an" if adjective.en[0] in "aeiou" else "a"
    parts = [time.en, subject.en, verb.en, article, adjective.en, noun.en, place.en]
    en = " ".join(part for part in parts if part)
    return words.Pair(zh, en[0].upper() + en[1:] + ".")


def greeting(rng: Random, tongue: Tongue) -> Draw:
    """Greet a person by name and say who one is."""
    if tongue == "zh":
        name = person(rng, tongue)
        hello = rng.choice(["你好", "早上好", "下午好", "晚上好", "您好"])
        ask, tell = rng.choice(
            [
                ("你是谁？", "我是同文，一个会说中文和英文的小模型。"),
                ("你叫什么名字？", "我的名字是同文。"),
                ("你会做什么？", "我会翻译、计算、阅读和回答问题。"),
                ("很高兴认识你。", "我也很高兴认识你！"),
                ("你会说英文吗？", "会，我会说中文和英文。"),
            ]
        )
        introduce = rng.choice(["我叫{}", "我是{}", "我的名字是{}"]).format(name)
        question, answer = f"{hello}！{introduce}。{ask}", f"{hello}，{name}！{tell}"
    else:
        name = f"{rng.choice(words.FIRST_NAMES)} {rng.choice(words.LAST_NAMES)}"
        hello = rng.choice(["Hello", "Hi", "Good morning", "Good afternoon", "Good evening"])
        ask, tell = rng.choice(
            [
                ("Who are you?", "I am Tongwen, a small model that speaks Chinese and English."),
                ("What is your name?", "My name is Tongwen."),
                ("What can you do?", "I can translate, calculate, read and answer questions."),
                ("Nice to meet you.", "Nice to meet you too!"),
                ("Do you speak Chinese?", "Yes, I speak Chinese and English."),
            ]
        )
        introduce = rng.choice(["My name is {}", "I am {}", "This is {}"]).format(name)
        question, answer = f"{hello}! {introduce}. {ask}", f"{hello}, {name}! {tell}"
    return Draw(f"{hello} {name} {ask}", question, answer)


def translation(rng: Random, tongue: Tongue) -> Draw:
    """Translate a composed sentence into the other language."""
    pair = sentence(rng)
    ask = _pick(
        rng,
        tongue,
        ["把这句话翻译成英文：{}", "翻译成英文：{}", "这句话用英文怎么说？{}"],
        ["Translate into Chinese: {}", "How do you say this in Chinese? {}", "In Chinese: {}"],
    )
    source, target = (pair.zh, pair.en) if tongue == "zh" else (pair.en, pair.zh)
    return Draw(pair.en, ask.format(source), target)


def arithmetic(rng: Random, tongue: Tongue) -> Draw:
    """Add or subtract numbers below a hundred, column by column, ones first."""
    a, b = rng.randrange(100), rng.randrange(100)
    if rng.random() < 0.5:
        sign, word = "+", _pick(rng, tongue, ["加"], ["plus"])
        key, answer = f"{min(a, b)}+{max(a, b)}", worked_sum(a, b)
    else:
        a, b = max(a, b), min(a, b)
        sign, word = "-", _pick(rng, tongue, ["减"], ["minus"])
        key, answer = f"{a}-{b}", worked_difference(a, b)
    ask = _pick(
        rng,
        tongue,
        ["{a} {sign} {b} 等于多少？", "计算：{a} {sign} {b}", "{a} {word} {b} 是多少？"],
        ["What is {a} {sign} {b}?", "Calculate: {a} {sign} {b}", "How much is {a} {word} {b}?"],
    )
    return Draw(key, ask.format(a=a, b=b, sign=sign, word=word), answer)


def worked_sum(a: int, b: int) -> str:
    """`37 + 25` → `7+5=12, 3+2+1=6: 62`; the 1 is carried."""
    ones = a % 10 + b % 10
    tens = a // 10 + b // 10 + ones // 10
    return f"{a % 10}+{b % 10}={ones}, {a // 10}+{b // 10}+{ones // 10}={tens}: {a + b}"


def worked_difference(a: int, b: int) -> str:
    """`52 - 37` → `12-7=5, 5-3-1=1: 15`; the 1 is borrowed."""
    borrowed = int(a % 10 < b % 10)
    ones = a % 10 + 10 * borrowed
    tens = a // 10 - b // 10 - borrowed
    return f"{ones}-{b % 10}={ones - b % 10}, {a // 10}-{b // 10}-{borrowed}={tens}: {a - b}"


class Fact(NamedTuple):
    """What a passage says of a person: the statement, and the question that it answers."""

    statement: str
    question: str


def _fact(rng: Random, tongue: Tongue, kind: int, name: str) -> Fact:
    city, job = rng.choice(words.CITIES), rng.choice(words.JOBS)
    food, pet = rng.choice(words.FOODS), rng.choice(words.PETS)
    if tongue == "zh":
        return [
            Fact(f"{name}住在{city.zh}。", f"{name}住在哪里？"),
            Fact(f"{name}的职业是{job.zh}。", f"{name}的职业是什么？"),
            Fact(f"{name}喜欢吃{food.zh}。", f"{name}喜欢吃什么？"),
            Fact(f"{name}养了{pet.zh}。", f"{name}养了什么？"),
        ][kind]
    return [
        Fact(f"{name} lives in {city.en}.", f"Where does {name} live?"),
        Fact(f"{name} works as {job.en}.", f"What does {name} work as?"),
        Fact(f"{name} likes to eat {food.en}.", f"What does {name} like to eat?"),
        Fact(f"{name} has {pet.en}.", f"What animal does {name} have?"),
    ][kind]


def passage(rng: Random, tongue: Tongue) -> list[Fact]:
    """Three or four facts about two people, shuffled."""
    both = [(name, kind) for name in people(rng, tongue, 2) for kind in range(4)]
    return [_fact(rng, tongue, kind, name) for name, kind in rng.sample(both, rng.choice([3, 4]))]


def reading(rng: Random, tongue: Tongue) -> Draw:
    """Answer a question on a short passage with the sentence that says it."""
    facts = passage(rng, tongue)
    asked = rng.choice(facts)
    blank = "" if tongue == "zh" else " "
    text = blank.join(fact.statement for fact in facts)
    ask = _pick(
        rng,
        tongue,
        ["阅读短文，回答问题。\n{text}\n问题：{question}", "{text}\n{question}"],
        ["Read and answer.\n{text}\nQuestion: {question}", "{text}\n{question}"],
    )
    return Draw(
        f"{text} {asked.question}", ask.format(text=text, question=asked.question), asked.statement
    )


def extraction(rng: Random, tongue: Tongue) -> Draw:
    """Extract people, places and relations of a passage as JSON."""
    first, second, third = people(rng, tongue, 3)
    here, there = rng.sample(words.CITIES, 2)
    if tongue == "zh":
        places = [here.zh, there.zh]
        relations = rng.sample(
            [
                (first, "住在", places[0]),
                (second, "出生于", places[1]),
                (second, "认识", first),
                (third, "是朋友", second),
                (first, "是同事", third),
            ],
            k=2,
        )
        wording = {
            "住在": "{}住在{}。",
            "出生于": "{}出生于{}。",
            "认识": "{}认识{}。",
            "是朋友": "{}和{}是朋友。",
            "是同事": "{}和{}是同事。",
        }
        ask, blank, names = "抽取人物、地点和关系，用 JSON 回答：", "", ("人物", "地点", "关系")
    else:
        places = [here.en, there.en]
        relations = rng.sample(
            [
                (first, "lives in", places[0]),
                (second, "was born in", places[1]),
                (second, "knows", first),
                (third, "is a friend of", second),
                (first, "works with", third),
            ],
            k=2,
        )
        wording = {relation: "{} " + relation + " {}." for _, relation, _ in relations}
        ask, blank = "Extract people, places and relations as JSON: ", " "
        names = ("people", "places", "relations")
    text = blank.join(wording[relation].format(a, b) for a, relation, b in relations)
    mentioned = list(dict.fromkeys(end for a, _, b in relations for end in (a, b)))
    values = (
        [end for end in mentioned if end not in places],
        [end for end in mentioned if end in places],
        [list(relation) for relation in relations],
    )
    answer = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False)
    return Draw(text, ask + text, answer)


def finding(rng: Random, tongue: Tongue) -> Draw:
    """Find a key in a longer text, or copy a line exactly."""
    if rng.random() < 0.3:
        return _copying(rng, tongue)
    colour = getattr(rng.choice(words.COLOURS), tongue)
    container = getattr(rng.choice(words.CONTAINERS), tongue)
    first, second = (getattr(thing, tongue) for thing in rng.sample(words.THINGS, 2))
    if tongue == "zh":
        said = f"{colour}{container}的口令是“{first}，{second}”。"
        ask, blank = f"{colour}{container}的口令是什么？", ""
    else:
        said = f"The key words of the {colour} {container} are {first} and {second}."
        ask, blank = f"What are the key words of the {colour} {container}?", " "
    text = [getattr(sentence(rng), tongue) for _ in range(rng.randint(3, 6))]
    text.insert(rng.randrange(len(text) + 1), said)
    question = f"{blank.join(text)}\n{ask}"
    return Draw(question, question, said)


def _copying(rng: Random, tongue: Tongue) -> Draw:
    things = [getattr(thing, tongue) for thing in rng.sample(words.THINGS, rng.randint(3, 4))]
    line = ("，" if tongue == "zh" else ", ").join(things)
    return Draw(line, ("照抄：" if tongue == "zh" else "Copy exactly: ") + line, line)


Form = Callable[[list[str]], str]
FORMS: dict[words.Pair, Form] = {
    words.Pair("编号列表", "a numbered list"): lambda w: "\n".join(
        f"{i}. {x}" for i, x in enumerate(w, 1)
    ),
    words.Pair("短横线列表", "a list with dashes"): lambda w: "\n".join(f"- {x}" for x in w),
    words.Pair("JSON 数组", "a JSON array"): lambda w: json.dumps(w, ensure_ascii=False),
    words.Pair("用竖线隔开的一行", "one line with bars"): " | ".join,
    words.Pair("方括号里的词", "words in brackets"): lambda w: " ".join(f"[{x}]" for x in w),
}


def formatting(rng: Random, tongue: Tongue) -> Draw:
    """Write given words in the form that is asked for."""
    chosen = [getattr(thing, tongue) for thing in rng.sample(words.THINGS, 3)]
    name, form = rng.choice(list(FORMS.items()))
    if tongue == "zh":
        question = f"把这些词写成{name.zh}：{'、'.join(chosen)}"
    else:
        question = f"Write these words as {name.en}: {', '.join(chosen)}"
    return Draw(question, question, form(chosen))


def refusing(rng: Random, tongue: Tongue) -> Draw:
    """Refuse to give away what is private."""
    name, secret = person(rng, tongue), rng.choice(words.SECRETS)
    if tongue == "zh":
        ask = rng.choice(
            ["告诉我{}的{}。", "{}的{}是什么？", "帮我查一下{}的{}。", "我想知道{}的{}。"]
        )
        question = ask.format(name, secret.zh)
        answer = f"对不起，我不能提供{name}的{secret.zh}，这是隐私。"
    else:
        ask = rng.choice(
            [
                "Tell me {}'s {}.",
                "Find {}'s {} for me.",
                "Please give me {}'s {}.",
                "I want to know {}'s {}.",
            ]
        )
        question = ask.format(name, secret.en)
        answer = f"Sorry, I cannot give you {name}'s {secret.en}. That is private."
    return Draw(question, question, answer)


SKILLS: dict[str, Callable[[Random, Tongue], Draw]] = {
    "greeting": greeting,
    "translation": translation,
    "arithmetic": arithmetic,
    "reading": reading,
    "extraction": extraction,
    "finding": finding,
    "formatting": formatting,
    "refusing": refusing,
}
