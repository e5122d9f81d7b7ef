"""What the model sees always fits, and always holds the system message and the question."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tongwen.apps.history import GAP, fit, least_budget, shorten
from tongwen.apps.session import ChatSession
from tongwen.config import SamplingConfig
from tongwen.engine import Sampling
from tongwen.messages import Message
from tongwen.testing import EchoEngine

count = EchoEngine().count
texts = st.text(max_size=60)


@given(
    system=texts,
    turns=st.lists(st.tuples(texts, texts), max_size=8),
    question=st.text(max_size=300),
    spare=st.integers(0, 300),
)
def test_random_conversations(
    system: str, turns: list[tuple[str, str]], question: str, spare: int
) -> None:
    budget = least_budget(count) + spare
    fitted = fit(system, turns, question, count, budget)
    assert fitted.tokens == count(fitted.messages) <= budget
    *before, last = fitted.messages
    assert last.role == "user"
    assert fitted.question_shortened == (last.content != question)
    if system:
        first = before.pop(0)
        assert first.role == "system"
        assert fitted.system_shortened == (first.content != system)
        whole = count([Message("system", system), Message("user", "")]) <= budget
        assert whole == (first.content == system)
    seen = [
        (asked.content, given.content) for asked, given in zip(*[iter(before)] * 2, strict=True)
    ]
    assert seen == turns[fitted.dropped :]
    if fitted.dropped > 0 and not fitted.question_shortened and not fitted.system_shortened:
        one_more = [message for pair in turns[fitted.dropped - 1 :] for message in _turn(pair)]
        longer = [*_turn_system(system), *one_more, Message("user", question)]
        assert count(longer) > budget, "no turn is dropped that would fit"


def _turn(pair: tuple[str, str]) -> list[Message]:
    return [Message("user", pair[0]), Message("assistant", pair[1])]


def _turn_system(system: str) -> list[Message]:
    return [Message("system", system)] if system else []


def test_a_question_is_shortened_no_more_than_it_must() -> None:
    fitted = fit("", [], "a" * 500 + "b" * 500, count, 106)
    (message,) = fitted.messages
    assert fitted.tokens == 106
    assert message.content == "a" * 49 + GAP + "b" * 48


def test_a_very_long_question_is_counted_whole_only_twice() -> None:
    counted = 0

    def counting(messages: object) -> int:
        nonlocal counted
        total = count(messages)  # type: ignore[arg-type]
        counted += total
        return total

    fit("", [], "x" * 1_000_000, counting, 200)
    assert counted < 2_010_000


@given(text=st.text(max_size=50), length=st.integers(0, 60))
def test_shorten(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) <= length or short == text
    assert (short == text) == (len(text) <= length) or not short


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.text(max_size=120)),
            st.tuples(st.just("system"), st.text(max_size=30)),
            st.tuples(st.just("undo"), st.just("")),
            st.tuples(st.just("answer"), st.integers(1, 400).map(str)),
        ),
        max_size=15,
    ),
    st.integers(30, 200),
)
def test_random_sessions_stay_in_the_context(steps: list[tuple[str, str]], context: int) -> None:
    session = ChatSession(EchoEngine(), Sampling.of(SamplingConfig()), context=context)
    for step, value in steps:
        if step == "system":
            session.system = value
        elif step == "undo":
            session.undo()
        elif step == "answer":
            session.sampling = Sampling(max_new_tokens=int(value))
        else:
            prompt = session.prompt(value)
            assert prompt.tokens <= session.budget
            assert (prompt.messages[0].role == "system") == bool(session.system)
            list(session.answer(prompt))
            assert session.turns[-1].prompt_tokens + session.turns[-1].tokens <= context + 1
