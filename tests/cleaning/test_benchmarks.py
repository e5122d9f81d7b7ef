"""Decontamination: planted questions are found, other text is not, every format is read."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

import pytest

from tongwen.cleaning.benchmark_files import benchmark_files, questions
from tongwen.cleaning.benchmarks import Benchmarks, Found, Match, Tally, load_benchmarks
from tongwen.errors import ConfigError, DataError

EN = (
    "A farmer has 12 cows and sells 3 of them at the market. Each of the others gives 8 litres of "
    "milk a day. How many litres of milk does he have after one week?"
)
ZH = (
    "小明有十二个苹果，他把其中的三个送给了妹妹，又从市场上买回来八个。"
    "请问小明现在一共有多少个苹果？"
)
SHORT_EN = "Who first reached the South Pole?"
SHORT_ZH = "谁最先到达了南极点？"


def write(path: Path, *records: object) -> Path:
    """JSON lines."""
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Benchmarks:
    """One benchmark of five questions, the last of them too short."""
    path = tmp_path_factory.mktemp("benchmarks") / "little.jsonl"
    asked = (EN, ZH, SHORT_EN, SHORT_ZH, "2 + 2 = ?")
    return load_benchmarks([write(path, *({"question": one, "answer": "?"} for one in asked))])


def items(matches: tuple[Match, ...]) -> list[int]:
    """The numbers of what was found."""
    return [match.item for match in matches]


@pytest.mark.parametrize(
    ("text", "item"),
    [
        (EN, 1),
        (EN.replace(" ", "\n").upper().replace(".", " "), 1),
        ("1.)" + EN.replace("12", "１２") + "\nAnswer: 504", 1),
        (ZH, 2),
        (ZH.replace("，", " ,\n"), 2),
        (
            "小明有十二個蘋果，他把其中的三個送給了妹妹，又從市場上買回來八個。請問小明現在一共有多少個蘋果？",
            2,
        ),
        (f"问：{SHORT_ZH}答：阿蒙森。", 4),
        (f"Quiz\n{SHORT_EN.lower()}", 3),
        (f"“{SHORT_EN}”", 3),
    ],
)
def test_a_question_is_found_however_it_is_written(
    benchmarks: Benchmarks, text: str, item: int
) -> None:
    (match,) = benchmarks.find(text)
    assert (match.benchmark, match.item, match.how, match.share) == ("little", item, "substring", 1)
    assert match.excerpt
    assert match.excerpt in text


def test_most_of_a_question_is_enough(benchmarks: Benchmarks) -> None:
    (match,) = benchmarks.find("So. " + EN.replace("12 cows", "15 goats") + " Well.")
    assert (match.item, match.how) == (1, "n-gram")
    assert 0.5 <= match.share < 1
    assert benchmarks.find(EN[:70]) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "。",
        "It is not known who first reached the South Pole on skis.",
        "他想知道谁最先到达了南极点附近",
        "2 + 2 = ?",
        "A farmer has 12 cows. " * 20,
    ],
)
def test_ordinary_text_is_no_question(benchmarks: Benchmarks, text: str) -> None:
    assert benchmarks.find(text) == ()


def test_what_is_found_is_counted(benchmarks: Benchmarks) -> None:
    tally = Tally(benchmarks)
    for row in (EN, f"{EN}\n{ZH}", "nothing", ZH):
        tally.add(benchmarks.find(row))
    assert tally.found() == (Found("little", items=5, too_short=1, found=2, rows=3),)


def test_set_phrases_tell_nothing(tmp_path: Path) -> None:
    frame = (
        "Read the following passage with care, and then answer the question that stands below it."
    )
    rng = random.Random(0)
    asked = [frame + " " + " ".join(rng.sample(EN.split(), 25)) for _ in range(30)]
    found = load_benchmarks([write(tmp_path / "framed.jsonl", *asked)]).find
    assert found(frame * 3) == ()
    assert items(found(asked[7])) == [8]


FORMATS: dict[str, tuple[str, list[str]]] = {
    "header.csv": (f'id,question,A,B,answer\n0,"{EN}",1,2,A\n', [EN]),
    "cmmlu.csv": (f",Question,A,B,Answer\n0,{ZH},1,2,A\n", [ZH]),
    "bare.csv": (f'"{EN}",1,2,3,4,B\n{ZH},1,2,3,4,C\n', [EN, ZH]),
    "mgsm.tsv": (f"{ZH}\t17\n", [ZH]),
    "lines.json": (f'{{"sentence": "{EN}"}}\r\n{{"sentence": "{ZH}"}}\r\n', [EN, ZH]),
    "array.json": (json.dumps([{"query": f"Question: {EN}\nAnswer:"}]), [EN]),
    "options.jsonl": (json.dumps({"inputs_pretokenized": f"{ZH}\nA. 十五\nB. 十七"}), [ZH]),
    "object.json": (json.dumps({"0": {"origin_prompt": EN}, "1": {"origin_prompt": ZH}}), [EN, ZH]),
    "passage.json": (
        json.dumps([[["男：早。", "女：早！"], [{"question": ZH, "choice": ["a"]}], "7-1"]]),
        [f"男：早。\n女：早！\n{ZH}"],
    ),
    "lambada.jsonl": (json.dumps({"context": EN, "continuation": "milk"}), [f"{EN}\nmilk"]),
    "pair.jsonl": (json.dumps({"sentence2": ZH, "sentence1": EN, "label": 1}), [f"{EN}\n{ZH}"]),
    "turns.jsonl": (json.dumps({"turns": [EN, ZH]}), [f"{EN}\n{ZH}"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path: Path, name: str) -> None:
    text, expected = FORMATS[name]
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"
    plain.write_bytes(b"\xef\xbb\xbf" + text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    assert list(questions(plain)) == list(questions(packed)) == [(one,) for one in expected]
    assert benchmark_files(packed) == (name.partition(".")[0], [packed])


def test_two_wordings_are_one_item(tmp_path: Path) -> None:
    record = {"context_options": [f"{EN} He", f"{EN} She"], "continuation": "has 504 litres of it."}
    benchmarks = load_benchmarks([write(tmp_path / "w.jsonl", record)])
    assert benchmarks.benchmarks[0].items == 1
    (match,) = benchmarks.find(f"{EN} She has 504 litres of it.")
    assert match.share == 1


def test_names(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    for name in ("test.jsonl", "other.jsonl.gz"):
        (tmp_path / "gsm8k" / name).touch()
    (tmp_path / "gsm8k" / "README.md").touch()
    assert benchmark_files(tmp_path / "gsm8k" / "test.jsonl")[0] == "gsm8k/test"
    name, files = benchmark_files(tmp_path / "gsm8k")
    assert (name, [file.name for file in files]) == ("gsm8k", ["other.jsonl.gz", "test.jsonl"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("unknown.jsonl", '{"frage": "Wer?"}', r"no question in record 1 .*frage"),
        ("broken.jsonl", '{"question": "a"}\n{"quest', "damaged: line 2"),
        ("deep.json", "[" * 100_000, "damaged: line 1: maximum recursion"),
        ("empty.jsonl", "", "holds no questions"),
        ("packed.jsonl.gz", "not gzip", "cannot read"),
    ],
)
def test_what_is_no_benchmark(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_benchmarks([tmp_path / name])


def test_places_that_cannot_be_meant(tmp_path: Path) -> None:
    path = write(tmp_path / "b.jsonl", {"question": EN})
    with pytest.raises(ConfigError, match="two benchmarks are called b"):
        load_benchmarks([path, path])
    with pytest.raises(DataError, match="does not exist"):
        load_benchmarks([tmp_path / "none"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="no benchmark files"):
        load_benchmarks([tmp_path / "folder"])


COUNTS = {
    "gsm8k/test.jsonl": 1319,
    "mgsm_zh.tsv": 250,
    "HumanEval.jsonl.gz": 164,
    "TruthfulQA.csv": 817,
    "ifeval_input_data.jsonl": 540,
    "ceval/val": 1346,
    "cmmlu/dev": 335,
    "mmlu/dev": 285,
    "foundry/copa.jsonl": 100,
    "foundry/winogrande.jsonl": 1267,
    "foundry/arc_challenge.jsonl": 1172,
}


def test_real_benchmarks_are_read_whole(shared_data: Path) -> None:
    counted = {
        name: sum(
            1 for file in benchmark_files(shared_data / "eval" / name)[1] for _ in questions(file)
        )
        for name in COUNTS
    }
    assert counted == COUNTS


def disguised(question: str, rng: random.Random) -> str:
    """Other blanks, other punctuation, or other width and case."""
    kind = rng.randrange(4)
    if kind == 1:
        return re.sub(" +", lambda _: rng.choice([" ", "  ", "\n", "\t"]), question)
    if kind == 2:
        return re.sub("[,.?!'’]", lambda _: rng.choice(["", " ", "；"]), question)
    if kind == 3:
        return re.sub("[0-9A-Za-z]", lambda char: chr(ord(char[0]) + 0xFEE0), question).upper()
    return question


def test_every_planted_question_is_found_and_no_clean_text(shared_data: Path) -> None:
    path = shared_data / "eval" / "gsm8k" / "test.jsonl"
    asked = [json.loads(line)["question"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(asked) == 1319
    lines = (shared_data / "pretrain" / "zh" / "laws.jsonl").read_text(encoding="utf-8")
    laws = [
        str(max(json.loads(line).values(), key=lambda v: len(str(v))))[:3000]
        for line in lines.split("\n")[:200]
    ]
    novel = shared_data / "pretrain" / "en" / "gutenberg" / "pride_and_prejudice.txt"
    book = novel.read_text(encoding="utf-8")
    hosts = laws + [book[i : i + 2000] for i in range(0, len(book), 2000)]
    benchmarks = load_benchmarks([path])
    assert [host for host in hosts if benchmarks.find(host)] == []
    rng, missed = random.Random(0), []
    for number, question in enumerate(asked, 1):
        host = rng.choice(hosts)
        at = rng.randrange(len(host) + 1)
        text = f"{host[:at]}{rng.choice(' 。')}{disguised(question, rng)}\n{host[at:]}"
        if number not in items(benchmarks.find(text)):
            missed.append(number)
    assert missed == []
