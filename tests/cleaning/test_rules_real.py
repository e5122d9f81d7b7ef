"""The rules on real material: what is known to be wrong is found to the unit, and little else."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tongwen.cleaning.cleaner import Cleaner
from tongwen.cleaning.findings import Verdict
from tongwen.cleaning.mojibake import mojibake
from tongwen.cleaning.personal import personal_data
from tongwen.config.cleaning import CleaningConfig
from tongwen.messages.conversation import Conversation, Document, Message
from tongwen.text import decode


@lru_cache(4)
def records(path: Path) -> list[dict[str, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    loaded: list[dict[str, str]] = json.loads(text)
    return loaded


def book(path: Path) -> str:
    return decode(path.read_bytes()).replace("\r\n", "\n")


def document(text: str, **settings: object) -> Verdict:
    return Cleaner(CleaningConfig.model_validate(settings))(Document(text))


def clean_text(text: str, **settings: object) -> str:
    item = document(text, **settings).item
    assert isinstance(item, Document)
    return item.text


def instruct(record: dict[str, str]) -> Conversation:
    """An alpaca record with texts that are not empty."""
    question = record["instruction"] + ("\n" + record["input"] if record["input"] else "")
    return Conversation((Message("user", question), Message("assistant", record["output"] or "-")))


def test_every_leaked_template_of_tigerbot(shared_data: Path) -> None:
    rows = records(shared_data / "clean" / "tigerbot_medical_qa_6000.jsonl")
    drop, mend = (Cleaner(CleaningConfig(clean=["leaks"], leaks=how)) for how in ("filter", "mend"))
    assert len(rows) == 6000
    assert sum(drop(instruct(row)).item is None for row in rows) == 6000
    for row in rows:
        item = mend(instruct(row)).item
        assert isinstance(item, Conversation)
        # The template, and nothing of what was said.
        question = row["instruction"].replace("### Instruction:", "").lstrip()
        answer = row["output"].replace("### Response:", "").lstrip()
        assert [message.content for message in item.messages] == [question, answer]


def test_every_leaked_template_of_alpaca(shared_data: Path) -> None:
    rows = records(shared_data / "instruct" / "alpaca_data.json")
    cleaner = Cleaner(CleaningConfig(clean=["leaks"]))
    found = {number for number, row in enumerate(rows) if cleaner(instruct(row)).item is None}
    numbered = {
        number
        for number, row in enumerate(rows)
        if re.search(r"(^|\n)[#\s]*[0-9]+\. *Instruction:", row["output"])
    }
    placeholders = {
        number
        for number, row in enumerate(rows)
        if any(
            mark in (row["input"] + row["output"]).lower().replace(" ", "")
            for mark in ("<noinput>", "<nooutput>", "[noinput]")
        )
    }
    assert len(rows) - 1 in numbered
    assert (len(numbered), len(placeholders)) == (37, 266)
    assert found == numbered | placeholders
    assert len(found) == 284


def test_the_addresses_in_the_works_of_zhu_ziqing(shared_data: Path) -> None:
    text = book(shared_data / "pretrain" / "zh" / "novel" / "朱自清大全集.txt") + "\n"
    lines = Counter(text.split("\n"))
    left = Counter(clean_text(text, clean=["boilerplate"]).split("\n"))
    removed = lines - left
    assert left - lines == Counter()
    assert sum(count for line, count in removed.items() if re.search("www|xiaoshuotxt", line)) == 57
    # The same address is written in full-width letters and with gaps in 34 more lines.
    assert removed.total() == 91
    assert not any(re.search("小.?说.?天.?堂|xiaoshuo", line) for line in left)


def test_the_notices_in_the_life_of_li_hongzhang(shared_data: Path) -> None:
    text = book(shared_data / "pretrain" / "zh" / "novel" / "李鸿章传_梁启超.gbk.txt")
    left = clean_text(text, clean=["boilerplate"])
    removed = Counter(text.split("\n")) - Counter(left.split("\n"))
    assert sum("txt81.com" in line for line in removed.elements()) == 4
    assert removed.total() == 8
    assert left.strip().startswith("李鸿章传作者：梁启超")
    assert left.strip().endswith("我劝天公重抖擞　不拘一格降人才")
    # 56,729 Hanzi without those of the notices.
    han = sum("\u4e00" <= char <= "\u9fff" for char in left)
    gone = sum("\u4e00" <= char <= "\u9fff" for char in "".join(removed.elements()))
    assert han + gone == sum("\u4e00" <= char <= "\u9fff" for char in text)


def test_the_frames_of_project_gutenberg(shared_data: Path) -> None:
    books = sorted((shared_data / "pretrain" / "en" / "gutenberg").glob("*.txt"))
    assert len(books) == 5
    for path in books:
        text = book(path)
        behind = text[text.index("*** START OF THIS PROJECT GUTENBERG EBOOK") :]
        between = behind[behind.index("\n") + 1 :].split("*** END OF THIS PROJECT GUTENBERG EBOOK")[
            0
        ]
        assert clean_text(text, clean=["boilerplate"]) == between


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def test_sound_texts_are_never_taken_for_mojibake(shared_data: Path) -> None:
    texts = 0
    paths = [*(shared_data / "pretrain").rglob("*.*"), *(shared_data / "instruct").glob("*.json*")]
    for path in sorted(paths):
        if path.suffix == ".txt":
            found = book(path).split("\n")
        elif path.suffix == ".jsonl":
            found = [text for row in records(path) for text in strings(row)]
        else:
            found = list(strings(json.loads(path.read_text(encoding="utf-8"))))
        for text in found:
            one = mojibake(text, "document")
            assert one is None or one.mended is None, (path.name, text)
        texts += len(found)
    assert texts > 600_000


def test_the_basic_rules_drop_no_sound_document(shared_data: Path) -> None:
    cleaner = Cleaner(CleaningConfig())
    dropped = Counter[str]()
    for path in sorted((shared_data / "pretrain").rglob("*.jsonl")):
        for row in records(path):
            verdict = cleaner(Document(max(strings(row), key=len)))
            dropped[path.name] += verdict.item is None
    # Two pages of the web in which apostrophes and Hungarian letters are lost for good.
    assert +dropped == Counter({"llamafactory_c4_demo.jsonl": 2})


def test_good_documents_pass_the_basic_rules(shared_data: Path) -> None:
    cleaner = Cleaner(CleaningConfig())
    for name in ("laws", "d2l_zh", "oi_wiki", "howtocook"):
        for row in records(shared_data / "pretrain" / "zh" / f"{name}.jsonl"):
            verdict = cleaner(Document(row.get("text") or max(strings(row), key=len)))
            assert verdict.item is not None, (name, verdict.findings)
            assert {finding.rule for finding in verdict.findings} <= {"unicode"}


def test_instruction_like_text_is_told_from_books(shared_data: Path) -> None:
    cleaner = Cleaner(CleaningConfig(clean=["instructions"]))

    def share(texts: list[str]) -> float:
        return sum(cleaner(Document(text)).item is None for text in texts) / len(texts)

    pretrain = shared_data / "pretrain"
    for name in ("d2l_zh", "oi_wiki", "laws", "howtocook"):
        rows = records(pretrain / "zh" / f"{name}.jsonl")
        assert share([max(strings(row), key=len) for row in rows]) < 0.01, name
    tasks = {"alpaca_data.json": 0.85, "alpaca_zh_carbonz0.json": 0.65}
    for name, least in tasks.items():
        rows = records(shared_data / "instruct" / name)[:4000]
        texts = ["\n".join(filter(None, (r["instruction"], r["input"], r["output"]))) for r in rows]
        assert share(texts) > least, name


def test_personal_data_that_others_labelled(shared_data: Path) -> None:
    kinds = {"EMAIL_ADDRESS": "e-mail", "PHONE_NUMBER": "phone", "CREDIT_CARD": "bank card"}
    labelled: Counter[str] = Counter()
    hit: Counter[str] = Counter()
    false = 0
    for row in json.loads((shared_data / "clean" / "presidio_synth_v2.json").read_text("utf-8")):
        found = list(personal_data(row["full_text"]))
        spans = [
            (span["start_position"], span["end_position"], kinds[span["entity_type"]])
            for span in row["spans"]
            if span["entity_type"] in kinds
        ]
        for start, end, kind in spans:
            labelled[kind] += 1
            hit[kind] += any(f.kind == kind and f.start < end and start < f.end for f in found)
        false += sum(
            not any(
                f.kind == kind and f.start < end and start < f.end for start, end, kind in spans
            )
            for f in found
        )
    assert labelled == {"e-mail": 49, "phone": 92, "bank card": 136}
    assert false == 0
    assert (hit["e-mail"], hit["bank card"]) == (49, 135)
    assert hit["phone"] >= 77
