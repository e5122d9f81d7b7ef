"""`data merge`: the items of all folders, and books that add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tongwen.config import DataMergeConfig, DataPrepareConfig
from tongwen.data import TokenStore, data_prepare, load_manifest
from tongwen.data.merge import DataMergeResult, data_merge
from tongwen.data.shards import Split
from tongwen.errors import DataError
from tongwen.files import sha256_file
from tongwen.tokenizer import load_tokenizer, save_tokenizer, tokenizer_hash, train_tokenizer


def prepared(folder: Path, rows: list[dict[str, Any]], tokenizer: Path, **more: Any) -> Path:
    folder.mkdir()
    source = folder / "rows.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    source.write_text(text, encoding="utf-8")
    fields = {"sources": [source], "out": folder / "out", "tokenizer": tokenizer, "hold_out": 0.3}
    data_prepare(DataPrepareConfig.model_validate({**fields, **more}))
    return folder / "out"


def merge(folders: list[Path], out: Path) -> DataMergeResult:
    return data_merge(DataMergeConfig(folders=folders, out=out))


@pytest.fixture
def folders(tmp_path: Path, tokenizer_folder: Path) -> list[Path]:
    talk = [{"instruction": f"{n} 加一？", "output": f"{n + 1}。"} for n in range(20)]
    texts = [{"text": f"第{n}天，天气很好。"} for n in range(30)]
    return [
        prepared(tmp_path / "talk", [*talk, {"instruction": "?"}], tokenizer_folder),
        prepared(tmp_path / "text", [*texts, {"text": ""}], tokenizer_folder, max_length=64),
    ]


def contents(folder: Path, split: Split) -> list[tuple[Any, ...]]:
    store = TokenStore.open(folder, split)
    columns = zip(store.bytes, store.languages, store.kinds, strict=True)
    return [
        (store.ids(i).tolist(), store.mask(i).tolist(), *map(int, row))
        for i, row in enumerate(columns)
    ]


def test_the_items_stand_in_the_order_of_the_folders(folders: list[Path], tmp_path: Path) -> None:
    merge(folders, tmp_path / "both")
    splits: tuple[Split, ...] = ("train", "held_out")
    for split in splits:
        parts = [contents(folder, split) for folder in folders]
        assert all(parts)
        assert contents(tmp_path / "both", split) == parts[0] + parts[1]
    kinds = TokenStore.open(tmp_path / "both", "train").kinds
    assert set(np.unique(kinds)) == {0, 1}
    tokenizer = load_tokenizer(tmp_path / "both")
    assert tokenizer_hash(tokenizer) == load_manifest(folders[0]).tokenizer.hash


def test_the_books_add_up(folders: list[Path], tmp_path: Path) -> None:
    result = merge(folders, tmp_path / "both")
    merged = load_manifest(tmp_path / "both")
    one, two = map(load_manifest, folders)
    assert merged.balance == one.balance + two.balance
    assert merged.balance.balanced
    assert (result.rows_in, result.rejected) == (52, 2)
    assert merged.sources == one.sources + two.sources
    for split in ("train", "held_out"):
        parts = [manifest.splits[split] for manifest in (one, two)]
        assert merged.splits[split].rows == sum(part.rows for part in parts)
        assert merged.splits[split].tokens == sum(part.tokens for part in parts)
        store = TokenStore.open(tmp_path / "both", "train" if split == "train" else "held_out")
        languages = merged.splits[split].languages
        assert sum(counts.items for counts in languages.values()) == len(store)
        assert merged.splits[split].bytes == store.bytes.sum()
    assert merged.settings["max_length"] == [2048, 64]
    assert merged.settings["seed"] == one.settings["seed"]
    rejects = (tmp_path / "both" / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rejects) == 2
    assert {Path(json.loads(line)["file"]).parent.name for line in rejects} == {"talk", "text"}


def test_the_same_folders_give_the_same_bytes(folders: list[Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        merge(folders, tmp_path / name)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*")]
    assert len(files) > 8
    for file in files:
        assert sha256_file(tmp_path / "one" / file) == sha256_file(tmp_path / "two" / file)


def test_merging_merged_folders_is_merging_all(folders: list[Path], tmp_path: Path) -> None:
    merge(folders[:1], tmp_path / "one")
    merge([tmp_path / "one", folders[1]], tmp_path / "two")
    merge(folders, tmp_path / "both")
    for file in ("train/ids.bin", "train/mask.bin", "train/index.bin", "manifest.json"):
        assert sha256_file(tmp_path / "two" / file) == sha256_file(tmp_path / "both" / file)


def test_mistakes_are_refused(folders: list[Path], tokenizer_folder: Path, tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(["天气很好"] * 5, 300), tmp_path / "other")
    rows = [{"text": f"第{n}天"} for n in range(9)]
    other = prepared(tmp_path / "strange", rows, tmp_path / "other")
    with pytest.raises(
        DataError, match=r"strange.out was prepared with another tokenizer than .*talk"
    ):
        merge([*folders, other], tmp_path / "out")
    seed = prepared(tmp_path / "seed", rows, tokenizer_folder, seed=1)
    with pytest.raises(DataError, match=r"prepared with seed 0, .*seed.out with 1: rows held out"):
        merge([*folders, seed], tmp_path / "out")
    with pytest.raises(DataError, match="is given twice"):
        merge([folders[0], folders[0]], tmp_path / "out")
    with pytest.raises(DataError, match="is not a prepared folder"):
        merge([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="exists already"):
        merge(folders, folders[0])
    (folders[1] / "rejects.jsonl").unlink()
    with pytest.raises(DataError, match=r"is not whole: it has no rejects\.jsonl"):
        merge(folders, tmp_path / "out")


def test_an_empty_folder_is_filled(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert merge(folders, tmp_path / "out").items > 0
