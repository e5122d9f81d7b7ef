"""`data prepare`: the books balance, the bytes are the same, nothing is written over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tongwen.config import DataPrepareConfig
from tongwen.data import DataPrepareResult, TokenStore, data_prepare, load_manifest
from tongwen.errors import ConfigError, DataError
from tongwen.tokenizer import load_tokenizer, tokenizer_hash

ROWS = [{"instruction": f"{n} 加 {n} 等于几？", "output": f"等于 {2 * n}。"} for n in range(40)]
STORY = "从前有一座山，山里有一座庙。\nOnce upon a time there was a mountain.\n" * 20

TRANSCRIPT = """\
preparing 3 files, 4.4 kB, into out
left out: 1 file that holds no data (photo.png)
tokenizer: 331 tokens (of 400; the text holds no more), trained on 4.4 kB of these rows
sources/a.jsonl: JSON lines, alpaca, utf-8: 41 rows → 37 used, 3 held out, 1 rejected
sources/empty.txt: no rows, the file is empty
sources/story.txt: text, utf-8: 1 row → 1 used
  rejected 1 × the key 'output' is missing; there are 'instruction' (first: sources/a.jsonl:41)
rows_in 42 = used 38 + held_out 3 + duplicates 0 + filtered 0 + rejected 1
rows that are not used, each with its reason: out/rejects.jsonl
noted: the row has no key 'input', in 40 rows
train: 40 items, 1,204 tokens, 518 of them trained; mixed 79%, zh 21%
held_out: 3 items, 75 tokens, 18 of them trained; zh 100%
"""

LAYOUTS = [
    "instruct/alpaca_zh_demo.json",
    "instruct/identity.json",
    "instruct/alpaca_seed_tasks.jsonl",
    "instruct/vicuna_instruct_sample.jsonl",
    "instruct/vicuna_chat_sample.jsonl",
    "instruct/aquila_convo_samples.jsonl",
    "instruct/firefly_dummy.jsonl",
    "instruct/firefly_dummy_pretrain.jsonl",
    "instruct/glaive_toolcall_zh_demo.json",
    "instruct/sharegpt_dummy_conversation.json",
    "instruct/dataset_info.json",
    "pretrain/en/gutenberg/alice.txt",
    "pretrain/en/llamafactory_c4_demo.jsonl",
    "pretrain/zh/novel/李鸿章传_梁启超.gbk.txt",
    "pretrain/zh/howtocook.jsonl",
    "pretrain/zh/poetry/lunyu.json",
]


def lines(path: Path, records: Sequence[object]) -> Path:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(path: Path) -> int:
    """Rows of a file, counted in another way."""
    if path.suffix == ".txt":
        return 1
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return sum(1 for line in text.split("\n") if line.strip())
    value = json.loads(text)
    return len(value) if isinstance(value, list) else 1


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    lines(folder / "a.jsonl", [*ROWS, {"instruction": "1 + 1"}])
    (folder / "story.txt").write_text(STORY, encoding="utf-8")
    (folder / "empty.txt").touch()
    return folder


def prepare(sources: Path, out: Path, **settings: object) -> DataPrepareResult:
    fields = {"vocab_size": 400, "max_length": 128, "hold_out": 0.2, **settings}
    return data_prepare(
        DataPrepareConfig.model_validate({"sources": [sources], "out": out} | fields)
    )


def test_the_books_balance(sources: Path, tmp_path: Path) -> None:
    result = prepare(sources, tmp_path / "out")
    assert result.rows_in == 42
    assert load_manifest(result.out).balance.balanced
    assert result.rejected == 1
    manifest = load_manifest(result.out)
    assert manifest.tokenizer.hash == tokenizer_hash(load_tokenizer(result.out))
    assert [source.rows_in for source in manifest.sources] == [41, 0, 1]
    for name, split in manifest.splits.items():
        store = TokenStore.open(result.out, "train" if name == "train" else "held_out")
        assert split.items == len(store)
        assert split.tokens == store.lengths.sum()
        assert split.bytes == store.bytes.sum()
        assert split.trained_tokens == sum(int(store.mask(i).sum()) for i in range(len(store)))
    assert result.tokens == manifest.splits["train"].tokens


def test_the_same_input_gives_the_same_bytes(sources: Path, tmp_path: Path) -> None:
    prepare(sources, tmp_path / "one")
    prepare(sources, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_equal_rows_fall_on_the_same_side(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", ROWS * 2)
    result = prepare(source, tmp_path / "out")
    assert 0 < result.held_out < len(ROWS)
    stores = [TokenStore.open(result.out, split) for split in ("train", "held_out")]
    train, held_out = (
        {tuple(store.ids(i).tolist()) for i in range(len(store))} for store in stores
    )
    assert not train & held_out
    assert len(train) + len(held_out) == len(ROWS)


def test_another_seed_holds_out_other_rows(tmp_path: Path) -> None:
    source = lines(tmp_path / "a.jsonl", ROWS)
    for seed in (0, 1):
        prepare(source, tmp_path / str(seed), seed=seed)
    held_out = [contents(tmp_path / str(seed) / "held_out")["ids.bin"] for seed in (0, 1)]
    assert held_out[0] != held_out[1]


def test_a_finished_folder_is_used_again(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = prepare(sources, tmp_path / "out")
    before = contents(tmp_path / "out")
    capsys.readouterr()
    again = prepare(sources, tmp_path / "out")
    assert not first.reused
    assert again.reused
    assert (again.rows_in, again.tokens) == (first.rows_in, first.tokens)
    assert contents(tmp_path / "out") == before
    assert capsys.readouterr().err == (
        f"{tmp_path / 'out'} is up to date: same sources, same settings\n"
    )


def test_another_folder_is_never_written_over(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(sources, out)
    with pytest.raises(DataError, match="with other settings: max_length, seed"):
        prepare(sources, out, max_length=64, seed=1)
    (sources / "story.txt").write_text(STORY + "完。", encoding="utf-8")
    with pytest.raises(DataError, match="prepared from other sources"):
        prepare(sources, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").touch()
    with pytest.raises(DataError, match="is not a folder that this command wrote"):
        prepare(sources, tmp_path / "mine")


def test_mistakes_are_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lies inside the source"):
        prepare(sources, sources / "out")
    with pytest.raises(ConfigError, match="max_length 8 is too short"):
        prepare(sources, tmp_path / "out", max_length=8)
    with pytest.raises(DataError, match="the sources hold no rows"):
        prepare(sources / "empty.txt", tmp_path / "out")
    bad = lines(tmp_path / "bad.jsonl", [{"instruction": "1"}])
    with pytest.raises(DataError, match="none of the 1 rows is left"):
        prepare(bad, tmp_path / "out")
    one = lines(tmp_path / "one.jsonl", ROWS[:3])
    with pytest.raises(DataError, match="good rows are held out"):
        prepare(one, tmp_path / "out", hold_out=0.999999)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_what_it_says(
    sources: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (sources / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    prepare(Path("sources"), Path("out"), hold_out=0.1)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == TRANSCRIPT


def test_every_layout_is_accounted_for(
    shared_data: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = DataPrepareConfig(
        sources=[shared_data / name for name in LAYOUTS],
        out=tmp_path / "out",
        tokenizer=tokenizer_folder,
        max_length=4096,
    )
    result = data_prepare(config)
    sources = load_manifest(result.out).sources
    expected = {name: rows_of(shared_data / name) for name in LAYOUTS}
    assert {name: source.rows_in for name, source in zip(LAYOUTS, sources, strict=True)} == expected
    layouts = {layout for source in sources for layout in source.layouts}
    assert layouts == {"alpaca", "firefly", "poem", "seed task", "sharegpt", "text", "turns"}
    assert result.rows_in == sum(expected.values())
    with result.rejects.open(encoding="utf-8") as file:
        rejects = [json.loads(line) for line in file]
    assert len(rejects) == result.rejected + result.duplicates
    assert all(reject["reason"] and reject["hint"] and reject["line"] for reject in rejects)


@pytest.mark.slow
def test_all_real_material_is_accounted_for(
    shared_data: Path, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = DataPrepareConfig(
        sources=[shared_data / "instruct", shared_data / "pretrain", shared_data / "preference"],
        out=tmp_path / "out",
        tokenizer=tokenizer_folder,
    )
    result = data_prepare(config)
    assert load_manifest(result.out).balance.balanced
    rows = {Path(source.path).name: source.rows_in for source in load_manifest(result.out).sources}
    assert rows["alpaca_data.json"] == 52_002
    assert rows["alpaca_zh_carbonz0.json"] == 20_465
    assert rows["laws.jsonl"] == 368
