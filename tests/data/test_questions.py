"""Tables of questions and answers become rows to learn from, every row accounted for."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tongwen.config.questions import DataQuestionsConfig
from tongwen.data.questions import DataQuestionsResult, data_questions
from tongwen.errors import ConfigError, DataError
from tongwen.messages import parse

DOCTOR = "扮演一个专业的医生并回答病人的问题。"
ROWS = [
    ("发烧怎么办？", "多喝水。"),
    ("头痛怎么办？", "休息。"),
    ("发烧怎么办？", "量体温。"),
    (" 发烧怎么办？ ", "多喝水。"),
    ("发烧怎么办？", "看医生。"),
]


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def convert(tmp_path: Path, **settings: object) -> tuple[DataQuestionsResult, list[object]]:
    """The result, and the rows that were written."""
    config = DataQuestionsConfig(out=tmp_path / "out.jsonl", **settings)  # type: ignore[arg-type]
    result = data_questions(config)
    total = result.used + result.repeated + result.left_out + result.rejected
    assert result.rows_in == total
    return result, [json.loads(line) for line in result.out.read_text("utf-8").splitlines()]


def test_the_medical_recipe(tmp_path: Path) -> None:
    source = table(tmp_path / "qa.csv", ("ask", "reply"), ROWS)
    result, rows = convert(
        tmp_path,
        sources=[source],
        question="ask",
        answer="reply",
        instruction=[DOCTOR],
        prefix="病人：",
    )
    assert rows == [
        {
            "instruction": DOCTOR,
            "input": "病人：发烧怎么办？",
            "output": "1.多喝水。\n2.量体温。\n3.看医生。\n",
        },
        {"instruction": DOCTOR, "input": "病人：头痛怎么办？", "output": "休息。"},
    ]
    assert (result.rows_in, result.questions, result.merged) == (5, 2, 2)
    assert (result.repeated, result.rejected, result.rejects) == (1, 0, None)
    assert all(parse(row) for row in rows)


@pytest.mark.parametrize(
    ("merge", "outputs", "left_out"),
    [
        ("first", ["多喝水。", "休息。"], 2),
        ("all", ["多喝水。", "量体温。", "看医生。", "休息。"], 0),
    ],
)
def test_other_ways_to_merge(tmp_path: Path, merge: str, outputs: list[str], left_out: int) -> None:
    source = table(tmp_path / "qa.csv", ("question", "answer"), ROWS)
    result, rows = convert(tmp_path, sources=[source], merge=merge)
    assert [row["output"] for row in rows] == outputs  # type: ignore[index]
    assert [row["instruction"] for row in rows][-1] == "头痛怎么办？"  # type: ignore[index]
    assert (result.left_out, result.merged) == (left_out, 0)


def test_tables_apart(tmp_path: Path) -> None:
    questions = table(
        tmp_path / "question.csv",
        ("id", "text"),
        [
            ("7", "发烧怎么办？"),
            ("8", "头痛怎么办？"),
            ("9", "没有回答"),
            ("8", "又是八"),
            ("", "x"),
        ],
    )
    answers = table(
        tmp_path / "answer.csv",
        ("ans_id", "q_id", "text"),
        [
            ("1", "8", "休息。"),
            ("2", "7", "喝水。"),
            ("3", "7", "休息。"),
            ("4", "10", "?"),
            ("5", "7", ""),
        ],
    )
    result, rows = convert(
        tmp_path, sources=[questions], answers=[answers], question="text", answer="text"
    )
    assert [row["output"] for row in rows] == ["1.喝水。\n2.休息。\n", "休息。"]  # type: ignore[index]
    assert (result.rows_in, result.used, result.rejected) == (10, 5, 5)
    assert result.rejects is not None
    rejects = [json.loads(line) for line in result.rejects.read_text("utf-8").splitlines()]
    assert [(Path(one["file"]).name, one["line"], one["reason"]) for one in rejects] == [
        ("question.csv", 5, "the number 8 was given before"),
        ("question.csv", 6, "the column 'id' is empty"),
        ("answer.csv", 5, "no question has the number 10"),
        ("answer.csv", 6, "the column 'text' is empty"),
        ("question.csv", 4, "no answer has the number of this question"),
    ]


def test_instructions_are_drawn_by_seed_and_question(tmp_path: Path) -> None:
    rows = [(f"问题{number}", "答") for number in range(200)]
    source = table(tmp_path / "qa.csv", ("question", "answer"), rows)
    say = ["甲", "乙", "丙"]

    def drawn(seed: int, sources: list[Path]) -> dict[str, str]:
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        _, written = convert(tmp_path, sources=sources, instruction=say, seed=seed)
        return {row["input"]: row["instruction"] for row in written}  # type: ignore[index]

    first = drawn(0, [source])
    counts = [list(first.values()).count(one) for one in say]
    assert min(counts) > 40
    assert drawn(1, [source]) != first
    backwards = table(tmp_path / "back.csv", ("question", "answer"), rows[::-1])
    assert drawn(0, [backwards]) == first


def test_rows_that_cannot_be_used(tmp_path: Path) -> None:
    source = tmp_path / "qa.jsonl"
    lines = ['{"question": "a", "answer": "b"}', '{"question": "a"}', "[1]", "{", '{"question": 1}']
    lines += ['{"question": "c", "answer": "d \\ud83d"}']
    source.write_text("\n".join(lines), "utf-8")
    result, rows = convert(tmp_path, sources=[source])
    assert len(rows) == 1
    assert (result.rows_in, result.rejected) == (6, 5)
    assert result.rejects == tmp_path / "out.rejects.jsonl"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "out.jsonl"
    for name in ("out.jsonl", "out.rejects.jsonl"):
        file = source.rename(tmp_path / name) if source.exists() else tmp_path / name
        file.write_text('{"question": "a", "answer": "b"}\n', "utf-8")
        with pytest.raises(DataError, match=f"{name} exists already"):
            convert(tmp_path, sources=[file])
        assert file.read_text("utf-8") == '{"question": "a", "answer": "b"}\n'


def test_a_wrong_column_is_named(tmp_path: Path) -> None:
    source = table(tmp_path / "qa.csv", ("qestion", "answer"), ROWS)
    with pytest.raises(DataError, match="the key 'question' is missing") as caught:
        convert(tmp_path, sources=[source])
    assert caught.value.hint == "did you mean 'question' instead of 'qestion'?"
    assert [path.name for path in tmp_path.iterdir()] == ["qa.csv"]


def test_the_output_is_json_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not look like a file of JSON lines"):
        data_questions(DataQuestionsConfig(sources=["a.csv"], out=tmp_path / "out"))


texts = st.sampled_from(["a", "b", "c", " a", ""])


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=12),
    merge=st.sampled_from(["numbered", "first", "all"]),
)
def test_every_row_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], merge: str
) -> None:
    folder = tmp_path_factory.mktemp("questions")
    source = folder / "qa.jsonl"
    records = [json.dumps({"question": q, "answer": a}) for q, a in rows]
    source.write_text("\n".join(records), "utf-8")
    whole = {(q.strip(), a.strip()) for q, a in rows if q.strip() and a.strip()}
    if not whole:
        with pytest.raises(DataError):
            convert(folder, sources=[source], merge=merge)
        return
    result, written = convert(folder, sources=[source], merge=merge)
    assert result.rows_in == len(rows)
    assert result.questions == len({question for question, _ in whole})
    assert result.rejected == sum(not (q.strip() and a.strip()) for q, a in rows)
    said = {(row["instruction"], row["output"]) for row in written}  # type: ignore[index]
    assert said == whole if merge == "all" else len(said) == result.questions
