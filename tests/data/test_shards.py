"""Tokens on disk come back as they were, and damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.data import LANGUAGES, TokenStore, TokenWriter
from tongwen.errors import DataError

items = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 65535), st.booleans()), min_size=1, max_size=20),
        st.integers(0, 2**32 - 1),
        st.sampled_from(LANGUAGES),
    ),
    max_size=20,
)


def write(folder: Path, vocab_size: int = 100) -> Path:
    with TokenWriter(folder / "train", vocab_size) as writer:
        writer.add([1, 2, 3], [False, True, True], 7, "zh")
        writer.add([4], [True], 1, "en")
    return folder


@given(items=items, vocab_size=st.sampled_from([65536, 65537, 151_936]))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[tuple[list[tuple[int, bool]], int, str]],
    vocab_size: int,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    with TokenWriter(folder / "train", vocab_size) as writer:
        for tokens, text_bytes, language in items:
            writer.add([i for i, _ in tokens], [m for _, m in tokens], text_bytes, language)
    store = TokenStore.open(folder, "train")
    assert len(store) == len(items)
    assert store.lengths.tolist() == [len(tokens) for tokens, _, _ in items]
    assert store.bytes.tolist() == [text_bytes for _, text_bytes, _ in items]
    assert [LANGUAGES[code] for code in store.languages] == [name for _, _, name in items]
    for i, (tokens, _, _) in enumerate(items):
        assert list(zip(store.ids(i).tolist(), store.mask(i).tolist(), strict=True)) == tokens


@pytest.mark.parametrize(("vocab_size", "width"), [(65536, 2), (65537, 4)])
def test_width_of_a_token(tmp_path: Path, vocab_size: int, width: int) -> None:
    write(tmp_path, vocab_size)
    assert (tmp_path / "train" / "ids.bin").stat().st_size == 4 * width
    assert TokenStore.open(tmp_path, "train").ids(0).dtype == np.dtype(f"<u{width}")


def test_reading_is_a_view_of_the_file(tmp_path: Path) -> None:
    ids = TokenStore.open(write(tmp_path), "train").ids(0)
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_an_item_out_of_range(tmp_path: Path) -> None:
    store = TokenStore.open(write(tmp_path), "train")
    for i in (-1, 2):
        with pytest.raises(IndexError):
            store.ids(i)


@pytest.mark.parametrize("name", ["ids.bin", "mask.bin", "index.bin"])
@pytest.mark.parametrize("cut", [1, 13])
def test_a_cut_file_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    path = write(tmp_path) / "train" / name
    data = path.read_bytes()
    path.write_bytes(data[:-cut] if cut < len(data) else b"")
    with pytest.raises(DataError, match="is damaged") as caught:
        TokenStore.open(tmp_path, "train")
    assert caught.value.hint == "prepare the data again with `tongwen data prepare`"


def test_offsets_that_do_not_rise_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path) / "train" / "index.bin"
    data = path.read_bytes()
    path.write_bytes(data[13:] + data[13:])
    with pytest.raises(DataError, match="do not rise"):
        TokenStore.open(tmp_path, "train")


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a prepared folder: it has no train/mask\.bin"):
        TokenStore.open(tmp_path, "train")


def test_foreign_ids_are_not_written(tmp_path: Path) -> None:
    with TokenWriter(tmp_path, 10) as writer, pytest.raises(AssertionError):
        writer.add([10], [True], 1, "zh")
