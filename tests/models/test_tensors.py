"""Our safetensors files are those of the library, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tongwen.models.tensors import write_tensors

KINDS = [
    torch.bool, torch.uint8, torch.int8, torch.float8_e4m3fn, torch.int16, torch.float16,
    torch.bfloat16, torch.int32, torch.float32, torch.float64, torch.int64,
]  # fmt: skip


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        f"{place}.{kind}": (torch.randn(3, place + 1, generator=generator) * 9).to(kind)
        for place, kind in enumerate(KINDS)
    }
    return {
        **made,
        "a number": torch.tensor(3.0),
        "nothing": torch.zeros(0, 4),
        "名字": torch.randn(4, 2, generator=generator),
    }


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_files_are_those_of_the_library(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    said = write_tensors(tmp_path / "ours", tensors(), metadata)
    save_file(tensors(), tmp_path / "theirs", metadata=metadata)
    ours, theirs = ((tmp_path / name).read_bytes() for name in ("ours", "theirs"))
    assert ours == theirs
    assert said == hashlib.sha256(ours).hexdigest()
    loaded = load_file(tmp_path / "ours")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())


def test_views_are_written_as_what_they_show(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    write_tensors(tmp_path / "views", {"turned": whole.T, "part": whole[1:3, 2:4]})
    loaded = load_file(tmp_path / "views")
    assert torch.equal(loaded["turned"], whole.T)
    assert torch.equal(loaded["part"], whole[1:3, 2:4])
