"""The curriculum: deterministic, right, and examined on contents that it does not teach."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.errors import DataError
from tongwen.lessons import SKILLS, Course, ExamItem, Taught, check_unseen
from tongwen.lessons.skills import Tongue, worked_difference, worked_sum
from tongwen.messages import Conversation, check
from tongwen.text import language


def conversation(taught: Taught) -> Conversation:
    assert isinstance(taught.item, Conversation)
    return taught.item


def test_the_same_seed_gives_the_same_course() -> None:
    for part in (
        lambda c: list(c.exercises(50)),
        lambda c: list(c.readings(50)),
        lambda c: c.exam(3),
    ):
        assert part(Course(1)) == part(Course(1))
        assert part(Course(1)) != part(Course(2))


@pytest.mark.parametrize("seed", [0, 1])
def test_no_exam_content_is_taught(seed: int) -> None:
    course = Course(seed)
    exam = course.exam(25)
    assert len(exam) == 25 * 2 * len(SKILLS) == len({item.question for item in exam})
    check_unseen(exam, [*course.exercises(4000), *course.readings(2000)])


def test_sums_of_the_exam_are_not_taught_the_other_way_round() -> None:
    course = Course(0)
    numbers = re.compile(r"(\d+) (?:\+|加|plus) (\d+)")
    taught = {
        tuple(sorted(map(int, found.groups())))
        for one in course.exercises(9000)
        for message in conversation(one).messages
        for found in numbers.finditer(message.content)
    }
    examined = {
        tuple(sorted(map(int, found.groups())))
        for item in course.exam(25)
        for found in numbers.finditer(item.question)
    }
    assert len(taught) > 300
    assert len(examined) > 10
    assert not taught & examined


def test_check_unseen_finds_what_was_taught() -> None:
    item = ExamItem("arithmetic", "en", "1+2", "What is 2 + 1?", "2+1=3, 0+0+0=0: 3")
    taught = next(Course(0).exercises(1))
    check_unseen([item], [taught])
    with pytest.raises(DataError, match="was taught"):
        check_unseen([item], [replace(taught, contents=frozenset({("arithmetic", "1+2")}))])


def test_exercises_are_sound_conversations_in_both_languages() -> None:
    languages = []
    for one in Course(3).exercises(500):
        check(one.item)
        languages.append(language(conversation(one).messages[-2].content))
    assert min(languages.count("zh"), languages.count("en")) > 100


@given(a=st.integers(0, 99), b=st.integers(0, 99))
def test_worked_arithmetic_is_right(a: int, b: int) -> None:
    for worked, result in (
        (worked_sum(a, b), a + b),
        (worked_difference(max(a, b), min(a, b)), abs(a - b)),
    ):
        steps, final = worked.split(": ")
        assert int(final) == result
        for step in steps.split(", "):
            terms, outcome = step.split("=")
            numbers = [int(n) for n in re.findall(r"[+-]?\d+", terms)]
            assert sum(numbers) == int(outcome), worked


@given(seed=st.integers(0, 10**6), tongue=st.sampled_from(["zh", "en"]))
def test_extraction_answers_are_json_of_what_the_passage_says(seed: int, tongue: Tongue) -> None:
    draw = SKILLS["extraction"](Random(seed), tongue)
    people, places, relations = json.loads(draw.answer).values()
    assert len(relations) == 2
    for end in (*people, *places):
        assert end in draw.question
    assert {end for a, _, b in relations for end in (a, b)} == {*people, *places}


@given(seed=st.integers(0, 10**6), tongue=st.sampled_from(["zh", "en"]))
def test_reading_and_finding_answers_stand_in_the_text(seed: int, tongue: Tongue) -> None:
    for skill in ("reading", "finding"):
        draw = SKILLS[skill](Random(seed), tongue)
        assert draw.answer in draw.question
