"""The pipeline: the same bytes wherever the work is done, and every row in exactly one place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tongwen.config import DataCleanConfig, DataPrepareConfig, DataStatsConfig
from tongwen.data import DataPrepareResult, data_clean, data_prepare, data_stats, load_manifest
from tongwen.errors import ConfigError, DataError
from tongwen.messages import parse

POEM = "床前明月光，疑是地上霜。举头望明月，低头思故乡。"
LONG = (
    "从前有一个人住在山里，他每天早上到河边去打水，回来以后在屋前的树下读书，一直读到太阳下山。"
    "他的朋友偶尔来看他，两个人就坐在树下喝茶，说一说城里的新鲜事，也说一说他正在读的书。"
)
FOOTER = "本页面由本站编辑部整理，转载时请保留这一行完整的说明文字，并且注明出处和日期，谢谢合作。"


def lines(path: Path, records: list[object]) -> Path:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rejects(result: DataPrepareResult) -> list[dict[str, object]]:
    with result.rejects.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def sources(tmp_path: Path) -> list[str | Path]:
    """Several files with rows of every outcome, long enough for several batches."""
    talk: list[object] = [
        {"instruction": f"{n} 加 {n % 7} 等于几？", "input": "", "output": f"等于 {n + n % 7}。"}
        for n in range(900)
    ]
    talk[5:5] = [{"instruction": "空", "input": "", "output": ""}, talk[0], [1, 2]]
    leak = {"instruction": "写诗", "input": "", "output": "好。\n### Instruction:\n再写"}
    texts: list[object] = [{"text": f"第{n}篇。{LONG}{n * n}。{FOOTER}"} for n in range(300)]
    folder = tmp_path / "sources"
    folder.mkdir()
    lines(folder / "empty.jsonl", [])
    (folder / "poem.txt").write_text(POEM, encoding="utf-8")
    return [
        lines(folder / "talk.jsonl", [*talk, leak]),
        folder / "empty.jsonl",
        lines(folder / "texts.jsonl", [*texts, *talk[:3], {"text": POEM}]),
        folder / "poem.txt",
    ]


def prepare(
    sources: list[str | Path], out: Path, tokenizer: Path, **settings: object
) -> DataPrepareResult:
    fields = {"sources": sources, "out": out, "tokenizer": tokenizer, "max_length": 256}
    return data_prepare(DataPrepareConfig.model_validate(fields | settings))


ALL_IN = {"clean": ["all"], "duplicates": "near", "repeats": 40}


@pytest.mark.parametrize("settings", [{}, ALL_IN], ids=["plain", "all in"])
def test_any_number_of_workers_gives_the_same_bytes(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path, settings: dict[str, object]
) -> None:
    alone = prepare(sources, tmp_path / "1", tokenizer_folder, workers=1, **settings)
    assert alone.used > 0
    for workers in (2, 3):
        # In a process of its own: this one has threads by now, and is not forked any more.
        out = tmp_path / str(workers)
        fields = {"sources": [str(one) for one in sources], "out": str(out), "max_length": 256}
        given = fields | settings | {"tokenizer": str(tokenizer_folder), "workers": workers}
        code = (
            "import sys, json, tongwen\n"
            "tongwen.data_prepare(tongwen.DataPrepareConfig(**json.loads(sys.argv[1])))"
        )
        subprocess.run([sys.executable, "-c", code, json.dumps(given)], check=True, timeout=120)
        assert contents(out) == contents(tmp_path / "1")


def test_workers_after_encoding_do_not_wait_for_its_threads(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    prepare(sources, tmp_path / "first", tokenizer_folder, workers=1)
    prepare(sources, tmp_path / "second", tokenizer_folder, workers=2)
    assert contents(tmp_path / "second") == contents(tmp_path / "first")


@pytest.fixture
def two_machines() -> Iterator[None]:
    """A cluster of two workers on this machine."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.usefixtures("two_machines")
def test_a_cluster_gives_the_same_bytes(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    prepare(sources, tmp_path / "here", tokenizer_folder, workers=1, **ALL_IN)
    prepare(sources, tmp_path / "there", tokenizer_folder, workers=2, engine="ray", **ALL_IN)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_every_row_that_is_not_used_is_listed(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    result = prepare(sources, tmp_path / "out", tokenizer_folder, clean=["leaks"])
    manifest = load_manifest(result.out)
    assert manifest.balance.balanced
    assert (result.rows_in, result.rejected, result.filtered) == (1209, 2, 1)
    # the first row again in its own file, three of them in the second, the poem as a file
    assert result.duplicates == 5
    listed = Counter(str(reject["outcome"]) for reject in rejects(result))
    assert listed == {"rejected": 2, "filtered": 1, "duplicates": 5}
    [again] = [one for one in rejects(result) if str(one["file"]).endswith("poem.txt")]
    assert str(again["reason"]).endswith("texts.jsonl:304")
    assert all(reject["hint"] for reject in rejects(result))
    assert sum(source.rows_in for source in manifest.sources) == 1209


def test_duplicates_may_be_kept(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    result = prepare(sources, tmp_path / "out", tokenizer_folder, duplicates="keep")
    assert result.duplicates == 0
    assert result.used + result.held_out == 1209 - result.rejected


def test_near_duplicates_and_passages(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    near = prepare(sources, tmp_path / "near", tokenizer_folder, duplicates="near")
    # 300 texts that differ in a number, of which the first stays
    assert near.duplicates >= 299
    hints = {
        "almost" if "% the same as" in str(one["reason"]) else "exactly": one["hint"]
        for one in rejects(near)
        if one["outcome"] == "duplicates"
    }
    assert hints == {
        "almost": "the earlier row is used; --duplicates exact uses both",
        "exactly": "the earlier row is used; --duplicates keep uses both",
    }
    cut = prepare(sources, tmp_path / "cut", tokenizer_folder, repeats=40)
    whole = prepare(sources, tmp_path / "whole", tokenizer_folder)
    # what is left of some of them says the same
    assert cut.duplicates > whole.duplicates
    assert cut.tokens < whole.tokens / 3
    assert not (cut.out / "scratch").exists()
    assert load_manifest(cut.out).cut_characters > 10_000
    assert load_manifest(whole.out).cut_characters == 0


def test_a_row_that_is_rejected_is_no_reason_to_drop_another(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    # The longer of two that are nearly the same has no room.
    said = "".join(f"第{n}天，他走了{n * n}里路，看见{n + 7}棵树。" for n in range(12))
    rows: list[object] = [
        {"instruction": "说", "output": said + "到了。" * 12},
        {"instruction": "说", "output": said},
    ]
    source = lines(tmp_path / "rows.jsonl", rows)
    tokens = [
        prepare(
            [lines(tmp_path / f"{place}.jsonl", [row])],
            tmp_path / f"alone {place}",
            tokenizer_folder,
            hold_out=0,
            max_length=2000,
        ).tokens
        for place, row in enumerate(rows)
    ]
    room = sum(tokens) // 2
    settings = {"hold_out": 0, "duplicates": "near", "near_threshold": 0.5}
    both = prepare([source], tmp_path / "b", tokenizer_folder, max_length=2000, **settings)
    assert (both.used, both.duplicates) == (1, 1)
    one = prepare([source], tmp_path / "one", tokenizer_folder, max_length=room, **settings)
    assert (one.used, one.rejected, one.duplicates) == (1, 1, 0)


def test_benchmarks_are_kept_out(tmp_path: Path, tokenizer_folder: Path) -> None:
    question = "一个水池有两个进水管，单开甲管六小时注满，单开乙管四小时注满，两管同开几小时注满？"
    benchmark = lines(tmp_path / "exam.jsonl", [{"question": question, "answer": "2.4"}])
    rows: list[object] = [{"text": LONG}, {"text": f"{LONG}\n{question}\n答案在书后。"}]
    source = lines(tmp_path / "rows.jsonl", rows)
    result = prepare(
        [source], tmp_path / "out", tokenizer_folder, decontaminate=[benchmark], hold_out=0
    )
    assert (result.used, result.filtered) == (1, 1)
    [found] = load_manifest(result.out).benchmarks
    assert (found.items, found.found, found.rows) == (1, 1, 1)
    [reject] = rejects(result)
    assert "question 1 of the benchmark exam" in str(reject["reason"])


def test_clean_rows_are_read_back_as_they_were_written(
    sources: list[str | Path], tmp_path: Path
) -> None:
    out = tmp_path / "clean"
    result = data_clean(DataCleanConfig(sources=sources, out=out))
    with (out / "rows.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == result.used
    assert [parse(row).to_record() for row in rows] == rows
    again = data_clean(DataCleanConfig(sources=[out / "rows.jsonl"], out=tmp_path / "again"))
    assert again.used == again.rows_in == result.used
    assert (tmp_path / "again/rows.jsonl").read_bytes() == (out / "rows.jsonl").read_bytes()


def test_statistics_write_nothing_but_what_they_count(
    sources: list[str | Path], tmp_path: Path, tokenizer_folder: Path
) -> None:
    out = tmp_path / "stats"
    result = data_stats(DataStatsConfig(sources=sources, out=out, tokenizer=tokenizer_folder))
    assert sorted(path.name for path in out.iterdir()) == [
        "account.json",
        "rejects.jsonl",
        "report.html",
    ]
    account = json.loads((out / "account.json").read_text(encoding="utf-8"))
    assert account["balance"]["used"] == account["statistics"]["items"] == result.used
    assert account["statistics"]["tokens"] > account["statistics"]["items"]
    with pytest.raises(DataError, match="exists already"):
        data_stats(DataStatsConfig(sources=sources, out=out))


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path: Path, tokenizer_folder: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jsonl"))
    lines(source, [{"text": LONG}, {"txt": LONG}])
    result = prepare([source], tmp_path / "out", tokenizer_folder, hold_out=0)
    [reject] = rejects(result)
    assert str(reject["file"]).endswith("/\\xff\\xfe.jsonl")


def test_an_entry_of_a_dataset_info_is_a_source(tmp_path: Path) -> None:
    rows: list[object] = [{"q": "一加一？", "a": "二。"}, {"q": "二加二？", "a": "四。"}]
    lines(tmp_path / "my.jsonl", rows)
    info = tmp_path / "dataset_info.json"
    columns = {"prompt": "q", "response": "a"}
    entries = {"my": {"file_name": "my.jsonl", "columns": columns}}
    info.write_text(json.dumps(entries), encoding="utf-8")
    entry = f"{info}#my"
    result = data_clean(DataCleanConfig(sources=[entry], out=tmp_path / "out"))
    assert (result.rows_in, result.used) == (2, 2)
    with pytest.raises(ConfigError, match="brings its own mapping"):
        data_clean(DataCleanConfig(sources=[entry, info], out=tmp_path / "two"))


def test_the_defects_of_real_files_are_counted_to_the_unit(
    shared_data: Path, tmp_path: Path
) -> None:
    names = {
        "instruct/alpaca_data.json": ("rejected", 28),
        "instruct/alpaca_zh_carbonz0.json": ("rejected", 11),
        "pretrain/zh/fewclue_eprstmt_unlabeled.jsonl": ("duplicates", 821),
        "pretrain/zh/fewclue_tnews_unlabeled.jsonl": ("duplicates", 0),
        "clean/tigerbot_medical_qa_6000.jsonl": ("filtered", 6000),
    }
    for place, (name, (outcome, count)) in enumerate(names.items()):
        out = tmp_path / str(place)
        clean = ["leaks"] if outcome == "filtered" else ["none"]
        config = DataStatsConfig(sources=[shared_data / name], out=out, clean=clean)
        assert getattr(data_stats(config), outcome) == count, name
    config = DataStatsConfig(
        sources=[shared_data / "instruct/alpaca_zh_translated.json"], out=tmp_path / "input"
    )
    data_stats(config)
    account = json.loads((tmp_path / "input/account.json").read_text(encoding="utf-8"))
    assert account["notes"]["the row has no key 'input'"] == 1
