"""Tokens on disk come back as they were, and damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tongwen.data import LANGUAGES, TokenStore, TokenWriter, shards
from tongwen.data.shards import KINDS, WITHOUT_KINDS, Kind
from tongwen.errors import DataError

items = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 65535), st.booleans()), min_size=1, max_size=20),
        st.integers(0, 2**32 - 1),
        st.sampled_from(LANGUAGES),
        st.sampled_from(KINDS),
    ),
    max_size=20,
)


Row = tuple[list[tuple[int, bool]], int, str, Kind]


def write_rows(folder: Path, items: list[Row], vocab_size: int) -> None:
    with TokenWriter(folder / "train", vocab_size) as writer:
        for tokens, size, language, kind in items:
            writer.add([i for i, _ in tokens], [m for _, m in tokens], size, language, kind)


def check_rows(store: TokenStore, items: list[Row]) -> None:
    assert len(store) == len(items)
    assert store.tokens == sum(len(tokens) for tokens, *_ in items)
    assert store.lengths.tolist() == [len(tokens) for tokens, *_ in items]
    assert store.bytes.tolist() == [size for _, size, _, _ in items]
    assert [LANGUAGES[code] for code in store.languages] == [name for _, _, name, _ in items]
    assert [KINDS[code] for code in store.kinds] == [kind for *_, kind in items]
    for i, (tokens, *_) in enumerate(items):
        assert list(zip(store.ids(i).tolist(), store.mask(i).tolist(), strict=True)) == tokens


def write(folder: Path, vocab_size: int = 100) -> Path:
    with TokenWriter(folder / "train", vocab_size) as writer:
        writer.add([1, 2, 3], [False, True, True], 7, "zh", "text")
        writer.add([4], [True], 1, "en", "conversation")
    return folder


@given(items=items, vocab_size=st.sampled_from([65536, 65537, 151_936]))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[Row],
    vocab_size: int,
) -> None:
    for waiting in (1, 30, 1 << 16):
        folder = tmp_path_factory.mktemp("shards")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shards, "WAITING", waiting)
            write_rows(folder, items, vocab_size)
        check_rows(TokenStore.open(folder, "train"), items)


@given(first=items, second=items)
def test_appended_stores_are_as_if_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, first: list[Row], second: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    write_rows(folder / "one", first, 70_000)
    write_rows(folder / "two", second, 70_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "COPIED", 7)
        with TokenWriter(folder / "both" / "train", 70_000) as writer:
            for name in ("one", "two"):
                writer.append(TokenStore.open(folder / name, "train"))
    check_rows(TokenStore.open(folder / "both", "train"), first + second)


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
@pytest.mark.parametrize("cut", [1, 14])
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
    path.write_bytes(data[14:] + data[14:])
    with pytest.raises(DataError, match="do not rise"):
        TokenStore.open(tmp_path, "train")


@pytest.mark.parametrize("field", ["language", "kind"])
def test_unknown_codes_are_refused(tmp_path: Path, field: str) -> None:
    path = write(tmp_path) / "train" / "index.bin"
    index = np.fromfile(path, dtype=shards.INDEX)
    index[field][1] = 9
    index.tofile(path)
    with pytest.raises(DataError, match=f"has an unknown {field}"):
        TokenStore.open(tmp_path, "train")


@pytest.mark.parametrize("rows", [1, 2, 14])
def test_an_index_without_kinds_is_refused(tmp_path: Path, rows: int) -> None:
    with TokenWriter(tmp_path / "train", 100) as writer:
        for _ in range(rows):
            writer.add([1, 2], [False, True], 1, "zh", "text")
    path = tmp_path / "train" / "index.bin"
    new = np.fromfile(path, dtype=shards.INDEX)
    old = np.zeros(rows, dtype=WITHOUT_KINDS)
    for name in ("end", "bytes", "language"):
        old[name] = new[name]
    old.tofile(path)
    with pytest.raises(DataError, match="does not say of what kind its items are") as caught:
        TokenStore.open(tmp_path, "train")
    assert caught.value.hint == "prepare the data again with `tongwen data prepare`"


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a prepared folder: it has no train/mask\.bin"):
        TokenStore.open(tmp_path, "train")


def test_foreign_ids_are_not_written(tmp_path: Path) -> None:
    for number in (-1, 10):
        with pytest.raises(AssertionError), TokenWriter(tmp_path, 10) as writer:
            writer.add([number], [True], 1, "zh", "text")
