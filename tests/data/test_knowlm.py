"""KnowLM's files: read from what numpy and torch alone have written, and written for them to read.

The formats are those of KnowLM's pretrain/preprocess.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tongwen.config import (
    DataExportKnowlmConfig,
    DataImportKnowlmConfig,
    DataPrepareConfig,
)
from tongwen.data import TokenStore, data_prepare, load_manifest
from tongwen.data.knowlm import data_export_knowlm, data_import_knowlm
from tongwen.data.knowlm_files import read_samples
from tongwen.errors import DataError
from tongwen.messages import encode_text
from tongwen.tokenizer import load_tokenizer

TEXTS = [
    "学而时习之，不亦说乎？",
    "有朋自远方来，不亦乐乎？",
    "The quick brown fox jumps.",
    "今天天气很好，我们去公园散步。",
    "over the lazy dog",
]


def knowlm_writes(prefix: Path, samples: Sequence[Sequence[int]], categories: list[int]) -> Path:
    """What KnowLM's `write` does."""
    start, starts, lengths = 0, [], []
    with Path(f"{prefix}.bin").open("wb") as file:
        for sample in samples:
            file.write(np.array(sample, dtype=np.uint16).tobytes(order="C"))
            lengths.append(len(sample))
            starts.append(start)
            start += len(sample)
    with Path(f"{prefix}.idx").open("wb") as file:
        file.write(np.array(starts, dtype=np.uint64).tobytes(order="C"))
        file.write(np.array(lengths, dtype=np.uint16).tobytes(order="C"))
    torch.save(categories, f"{prefix}.dis")
    return prefix


def knowlm_reads(prefix: Path) -> tuple[list[list[int]], list[int]]:
    """What KnowLM's `MyDataset` does, with its checks."""
    size = Path(f"{prefix}.idx").stat().st_size
    assert size % 10 == 0
    count = size // 10
    data = Path(f"{prefix}.idx").read_bytes()
    starts = np.frombuffer(data[: count * 8], dtype=np.uint64).tolist()
    lengths = np.frombuffer(data[count * 8 :], dtype=np.uint16).tolist()
    tokens = np.memmap(f"{prefix}.bin", dtype=np.uint16, mode="r")
    categories = torch.load(f"{prefix}.dis", weights_only=True)
    assert sum(categories) == count
    assert lengths[-1] + starts[-1] == len(tokens)
    for number in range(count - 1):
        assert starts[number] + lengths[number] == starts[number + 1]
    spans = zip(starts, lengths, strict=True)
    return [tokens[start : start + length].tolist() for start, length in spans], categories


@pytest.fixture
def samples(tokenizer_folder: Path) -> list[list[int]]:
    tokenizer = load_tokenizer(tokenizer_folder)
    ids = [[0, *encode_text(tokenizer, text), 0] for text in TEXTS]
    ids[1] = ids[1][1:-1]  # a piece from the middle of a document
    return ids


def imported(prefix: Path, tokenizer: Path, out: Path, **more: Any) -> list[Path]:
    fields = {"prefix": prefix, "tokenizer": tokenizer, "out": out, "hold_out": 0.0, **more}
    return data_import_knowlm(DataImportKnowlmConfig.model_validate(fields)).folders


def exported(folders: list[Path], out: Path, **more: Any) -> Path:
    config = DataExportKnowlmConfig.model_validate({"folders": folders, "out": out, **more})
    return data_export_knowlm(config).out


def stored(folder: Path) -> list[list[int]]:
    store = TokenStore.open(folder, "train")
    return [store.ids(i).tolist() for i in range(len(store))]


def test_samples_become_items(
    samples: list[list[int]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    prefix = knowlm_writes(tmp_path / "set", samples, [5])
    [folder] = imported(prefix, tokenizer_folder, tmp_path / "out")
    assert folder == tmp_path / "out"
    assert stored(folder) == samples
    store = TokenStore.open(folder, "train")
    assert all(store.mask(i).tolist() == [False] + [True] * (len(ids) - 1)
               for i, ids in enumerate(samples))  # fmt: skip
    expected = [len(text.encode()) for text in TEXTS]
    tokenizer = load_tokenizer(tokenizer_folder)
    expected[1] -= len(str(tokenizer.decode(samples[1][:1])).encode())
    assert store.bytes.tolist() == expected
    assert store.languages.tolist() == [0, 0, 1, 0, 1]
    manifest = load_manifest(folder)
    assert str(manifest.balance).startswith("rows_in 5 = used 5 + held_out 0")
    assert [Path(source.path).name for source in manifest.sources] == [
        "set.bin", "set.idx", "set.dis",
    ]  # fmt: skip
    assert [source.rows_in for source in manifest.sources] == [5, 0, 0]


def test_each_category_becomes_a_folder(
    samples: list[list[int]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    prefix = knowlm_writes(tmp_path / "set", samples, [2, 3])
    folders = imported(prefix, tokenizer_folder, tmp_path / "out")
    assert folders == [tmp_path / "out" / "category-1", tmp_path / "out" / "category-2"]
    assert [stored(folder) for folder in folders] == [samples[:2], samples[2:]]
    assert load_manifest(folders[1]).sources[0].note == "category 2 of 2"
    back = exported(folders, tmp_path / "back")
    assert knowlm_reads(back) == (samples, [2, 3])
    for ending in (".bin", ".idx"):
        ours, theirs = Path(f"{back}{ending}"), Path(f"{prefix}{ending}")
        assert ours.read_bytes() == theirs.read_bytes()


def test_an_empty_list_is_one_category(
    samples: list[list[int]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    prefix = knowlm_writes(tmp_path / "set", samples, [])
    assert imported(prefix, tokenizer_folder, tmp_path / "out") == [tmp_path / "out"]


@given(
    samples=st.lists(
        st.lists(st.integers(0, 371), min_size=1, max_size=30), min_size=1, max_size=12
    ),
    data=st.data(),
)
def test_what_is_read_is_written_again(
    samples: list[list[int]],
    data: st.DataObject,
    tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("knowlm")
    cut = data.draw(st.integers(1, len(samples)))
    categories = [count for count in (cut, len(samples) - cut) if count]
    prefix = knowlm_writes(folder / "a.b", samples, categories)
    back = exported(imported(prefix, tokenizer_folder, folder / "out"), folder / "c.d")
    assert knowlm_reads(back) == (samples, categories)


def test_held_out_samples_follow_from_content_and_seed(
    samples: list[list[int]], tokenizer_folder: Path, tmp_path: Path
) -> None:
    prefix = knowlm_writes(tmp_path / "set", samples * 20, [100])
    [folder] = imported(prefix, tokenizer_folder, tmp_path / "out", hold_out=0.5, seed=1)
    held_out = TokenStore.open(folder, "held_out")
    assert 0 < len(held_out) < 100
    assert len(held_out) % 20 == 0, "equal samples fall on the same side"
    assert len(held_out) + len(stored(folder)) == 100
    back = exported([folder], tmp_path / "held", held_out=True)
    assert sum(knowlm_reads(back)[1]) == len(held_out)


def damage(prefix: Path, what: str) -> None:
    index, tokens = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    starts = np.array([0, 3, 6], dtype=np.uint64)
    lengths = np.array([3, 3, 2], dtype=np.uint16)
    match what:
        case "half a token":
            tokens.write_bytes(tokens.read_bytes()[:-1])
        case "a token too few":
            tokens.write_bytes(tokens.read_bytes()[:-2])
        case "half a sample":
            index.write_bytes(index.read_bytes()[:-1])
        case "no samples":
            index.write_bytes(b"")
        case "a gap":
            starts[1] += 1
            index.write_bytes(starts.tobytes() + lengths.tobytes())
        case "an empty sample":
            lengths[:] = [6, 0, 2]
            index.write_bytes(starts.tobytes() + lengths.tobytes())
        case "other categories":
            torch.save([2, 2], f"{prefix}.dis")
        case "an empty category":
            torch.save([3, 0], f"{prefix}.dis")
        case "no list":
            torch.save({"n": 3}, f"{prefix}.dis")
        case "no numbers":
            torch.save([True, 2], f"{prefix}.dis")
        case "no categories":
            Path(f"{prefix}.dis").write_bytes(b"3")
        case _:
            Path(f"{prefix}.dis").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("half a token", r"set\.bin is damaged: it ends inside a token"),
        ("a token too few", r"set\.idx speaks of 8 tokens, .*set\.bin has 7"),
        ("half a sample", "29 bytes are not a whole number of samples"),
        ("no samples", "0 bytes are not a whole number of samples"),
        ("a gap", "sample 2 starts at token 4, the samples before it end at 3"),
        ("an empty sample", "sample 2 is empty"),
        ("other categories", r"set\.dis counts 2 \+ 2 = 4 samples, the index has 3"),
        ("an empty category", "category 2 has no samples"),
        ("no list", "is not a list of how many samples"),
        ("no numbers", "is not a list of how many samples"),
        ("no categories", "is not a list saved by torch"),
        ("a missing file", r"set\.dis does not exist"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, what: str, message: str) -> None:
    prefix = knowlm_writes(tmp_path / "set", [[1, 2, 3], [4, 5, 6], [7, 8]], [3])
    assert read_samples(prefix).ends.tolist() == [3, 6, 8]
    damage(prefix, what)
    with pytest.raises(DataError, match=message) as caught:
        read_samples(prefix)
    assert caught.value.hint


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    prefix = knowlm_writes(tmp_path / "set", [[1, 2]], [1])
    torch.save([Bad()], f"{prefix}.dis")
    with pytest.raises(DataError, match="is not a list saved by torch"):
        read_samples(prefix)
    assert not (tmp_path / "run").exists()


def test_a_foreign_tokenizer_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    prefix = knowlm_writes(tmp_path / "set", [[1, 31_999]], [1])
    with pytest.raises(DataError, match=r"has the id 31999, and .* only 372 tokens"):
        imported(prefix, tokenizer_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def prepared(tmp_path: Path, tokenizer: Path, rows: list[dict[str, str]]) -> Path:
    source = tmp_path / "rows.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    source.write_text(text, encoding="utf-8")
    out = tmp_path / "prepared"
    data_prepare(
        DataPrepareConfig.model_validate(
            {"sources": [source], "out": out, "tokenizer": tokenizer, "hold_out": 0}
            | {"max_length": 32}
        )
    )
    return out


def test_what_will_be_learned_anew_is_counted(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = prepared(tmp_path, tokenizer_folder, [{"text": "龘" * 30}])
    config = DataExportKnowlmConfig(folders=[folder], out=tmp_path / "set")
    result = data_export_knowlm(config)
    pieces = len(stored(folder))
    # Each piece but the first begins with a 龘 of three tokens as context.
    assert result.newly_learned == 2 * (pieces - 1)
    assert pieces > 2
    assert knowlm_reads(tmp_path / "set")[0] == stored(folder)


def test_what_knowlm_cannot_hold_is_refused(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, tokenizer_folder, [{"text": "天气很好"}])
    manifest = load_manifest(folder)
    large = manifest.model_copy(
        update={"tokenizer": manifest.tokenizer.model_copy(update={"size": 65_537})}
    )
    (folder / "manifest.json").write_text(large.model_dump_json(), encoding="utf-8")
    with pytest.raises(DataError, match="its tokenizer has 65,537 tokens"):
        exported([folder], tmp_path / "set")
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    monkeypatch.setattr("tongwen.data.knowlm.LONGEST", 3)
    with pytest.raises(DataError, match="item 1 has 4 tokens, KnowLM's files hold"):
        exported([folder], tmp_path / "set")
    monkeypatch.undo()
    exported([folder], tmp_path / "set")
    with pytest.raises(DataError, match=r"set\.bin exists already"):
        exported([folder], tmp_path / "set")
    assert sorted(path.name for path in tmp_path.glob("*set*")) == ["set.bin", "set.dis", "set.idx"]


def test_a_failure_leaves_no_file(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    folder = prepared(tmp_path, tokenizer_folder, [{"text": "天气很好"}])
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        exported([folder], tmp_path / "set")
    assert not list(tmp_path.glob("*set*"))


def test_conversations_are_not_exported(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = prepared(tmp_path, tokenizer_folder, [{"instruction": "1?", "output": "1!"}])
    with pytest.raises(DataError, match="holds items of the kind conversation"):
        exported([folder], tmp_path / "set")


def test_reading_and_writing_import_no_torch_before_they_need_it() -> None:
    code = "import sys, tongwen.data.knowlm; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
