"""Unusual layouts, described by a few lines of TOML."""

from __future__ import annotations

import copy
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tongwen.errors import ConfigError, DataError
from tongwen.messages import Document, Judged, load_mapping, parse, parse_noted


def mapped(tmp_path: Path, toml: str, row: object) -> object:
    """The record of a row that is read through a mapping."""
    file = tmp_path / "layout.toml"
    file.write_text(toml, "utf-8")
    return parse(row, load_mapping(file)).to_record()


def pairs(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def test_text(tmp_path: Path) -> None:
    row = {"head": "标题", "body": {"zh": "正文", "note": None}, "text": "别的"}
    assert mapped(tmp_path, '[text]\ntext = "body.zh"', row) == {"text": "正文"}
    several = '[text]\ntext = ["head", "body.zh", "body.note", "body.en"]'
    assert mapped(tmp_path, several, row) == {"text": "标题\n正文"}
    lines = {"lines": ["一", "二"], "a.b": "点"}
    assert mapped(tmp_path, '[text]\ntext = "lines.*"', lines) == {"text": "一\n二"}
    assert mapped(tmp_path, '[text]\ntext = "lines.1"', lines) == {"text": "二"}
    assert mapped(tmp_path, '[text]\ntext = "a.b"', lines) == {"text": "点"}


def test_question_and_answer(tmp_path: Path) -> None:
    toml = """[question_answer]
        question = ["q", "hint"]
        answer = "data.a"
        instruction = "回答病人的问题。"
        system = "sys"
        system_text = "你是医生。"
        thinking = "why"
        history = "past"
        """
    row = {"q": "发烧？", "data": {"a": "喝水。"}, "why": "想", "past": [["一", "二"]]}
    assert mapped(tmp_path, toml, row) == {
        "messages": [
            {"role": "system", "content": "你是医生。"},
            *pairs("一", "二", "回答病人的问题。\n发烧？"),
            {"role": "assistant", "content": "喝水。", "reasoning_content": "想"},
        ]
    }


def test_a_list_of_messages(tmp_path: Path) -> None:
    toml = """[conversation]
        list = "data.turns"
        role = "speaker"
        content = "utterance"
        roles = {human = ["Q", "问"], assistant = ["A"], call = ["CALL"], tool = ["RESULT"]}
        tools = "functions"
        """
    turns = [
        {"speaker": "问", "utterance": "a"},
        {"speaker": "CALL", "utterance": '{"name": "f", "arguments": {}}'},
        {"speaker": "RESULT", "utterance": "1"},
        {"speaker": "A", "utterance": "b", "loss": True},
    ]
    record = mapped(tmp_path, toml, {"data": {"turns": turns}, "functions": [{"name": "f"}]})
    assert isinstance(record, dict)
    roles = [message["role"] for message in record["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert record["tools"] == [{"type": "function", "function": {"name": "f"}}]


MOSS = """[conversation]
    turns = "chat.*"
    user = "Human"
    assistant = "MOSS"
    system = "meta_instruction"
    strip = ["<|Human|>:", "<|MOSS|>:", "<eoh>", "<eom>"]
    """


def test_turns_in_a_dictionary(tmp_path: Path) -> None:
    row = {
        "meta_instruction": "You are MOSS.\n",
        "chat": {
            "turn_1": {"Human": "<|Human|>: 你好<eoh>\n", "MOSS": "<|MOSS|>: 你好！<eom>\n"},
            "turn_2": {"Human": "<|Human|>: 再见<eoh>\n", "MOSS": "<|MOSS|>: 再见！<eom>\n"},
        },
    }
    system = {"role": "system", "content": "You are MOSS."}
    said = pairs("你好", "你好！", "再见", "再见！")
    assert mapped(tmp_path, MOSS, row) == {"messages": [system, *said]}


def test_texts_in_turn(tmp_path: Path) -> None:
    toml = '[conversation]\nlist = "dialog"'
    row = {"dialog": ["a", "b", "c", "d"]}
    assert mapped(tmp_path, toml, row) == {"messages": pairs("a", "b", "c", "d")}
    noted = parse_noted({"dialog": ["a", "b", "c"]}, load_mapping(tmp_path / "layout.toml"))
    assert noted.notes == ("the last question has no answer and was left out",)


def test_preferences(tmp_path: Path) -> None:
    toml = '[preference]\nquestion = "q"\nchosen = "good.0"\nrejected = "bad"\nsystem_text = "s"'
    record = mapped(tmp_path, toml, {"q": "a", "good": ["b"], "bad": "c"})
    assert record == {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}],
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "c"}],
    }
    toml = """[preference]
        prompt = "dialog"
        chosen = "better"
        rejected = "worse"
        role = "who"
        content = "what"
        roles = {user = ["me"], assistant = ["you"]}
        """
    row = {
        "dialog": [{"who": "me", "what": "a"}],
        "better": {"who": "you", "what": "b"},
        "worse": [{"who": "you", "what": "c"}],
    }
    record = mapped(tmp_path, toml, row)
    assert isinstance(record, dict)
    assert record["prompt"] == [{"role": "user", "content": "a"}]
    assert record["rejected"] == [{"role": "assistant", "content": "c"}]


def test_a_label_makes_a_judged_answer(tmp_path: Path) -> None:
    file = tmp_path / "layout.toml"
    file.write_text('[question_answer]\nquestion = "q"\nanswer = "a"\nlabel = "ok"', "utf-8")
    item = parse({"q": "a", "a": "b", "ok": False}, load_mapping(file))
    assert isinstance(item, Judged)
    assert not item.good


def test_a_mapped_row_without_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        mapped(tmp_path, '[text]\ntext = "data.body"', {"data": {"txt": "a"}, "id": 1})
    assert caught.value.message == "nothing at 'data.body'; the row has 'data', 'id'"
    with pytest.raises(DataError, match="the text at 'id' is a number"):
        mapped(tmp_path, '[text]\ntext = "id"', {"id": 1})
    with pytest.raises(DataError, match="'chat' is an object, not a list") as caught:
        mapped(tmp_path, '[conversation]\nlist = "chat"', {"chat": {"turn_1": "a"}})
    assert caught.value.hint == "write 'chat.*' for its values"


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ("[txt]\ntext = 'a'", "unknown table [txt] in FILE", "did you mean `text`?"),
        ("[text]\ntxt = 'a'", "unknown key `txt` of [text] in FILE", "did you mean `text`?"),
        (
            "[question_answer]\nquestion = 'q'\nanwser = 'a'",
            "unknown key `anwser` of [question_answer] in FILE",
            "did you mean `answer`?",
        ),
        ("[text]", "`text` of [text] in FILE: field required", "it needs text"),
        ("", "FILE has 0 tables, not one", None),
        ("[text]\ntext = 'a'\n[conversation]\nlist = 'a'", "FILE has 2 tables, not one", None),
        (
            "[conversation]\nlist = 'a'\nturns = 'b'\nuser = 'c'\nassistant = 'd'",
            "[conversation] in FILE: give either `list` or `turns`",
            None,
        ),
        (
            "[conversation]\nturns = 'a'\nuser = 'c'",
            "[conversation] in FILE: `turns`, `user` and `assistant` go together",
            None,
        ),
        (
            "[conversation]\nlist = 'a'\nrole = 'b'",
            "[conversation] in FILE: `role` and `content` go together",
            None,
        ),
        (
            "[conversation]\nlist = 'a'\nrole = 'b'\ncontent = 'c'\nroles = {asistant = ['A']}",
            "[conversation] in FILE: 'asistant' in `roles` is none of ours; did you mean 'assis",
            None,
        ),
        ("[text]\ntext = 3", "`text` of [text] in FILE: write a place, or a list of places", None),
        ("[text", "FILE is not valid TOML", None),
    ],
)
def test_mistakes_in_a_mapping(tmp_path: Path, toml: str, message: str, hint: str | None) -> None:
    file = tmp_path / "layout.toml"
    file.write_text(toml, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_mapping(file)
    assert caught.value.message.replace(str(file), "FILE").startswith(message)
    assert caught.value.hint
    if hint is not None:
        assert caught.value.hint == hint


def test_a_mapping_can_be_sent_to_another_process(tmp_path: Path) -> None:
    file = tmp_path / "layout.toml"
    file.write_text(MOSS, "utf-8")
    mapping = load_mapping(file)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(copy.copy, mapping).result() == mapping


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_mapping(tmp_path / "none.toml")


def test_a_text_stays_as_it_is_without_marks(tmp_path: Path) -> None:
    file = tmp_path / "layout.toml"
    file.write_text('[text]\ntext = "body"', "utf-8")
    assert parse({"body": "  a\n"}, load_mapping(file)) == Document("  a\n")
