"""The C++ kernels: how they are built, and what holds for them besides agreeing with torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tongwen.models.nf4 import VALUES, NF4Linear
from tongwen.native import Heads, Kernels, add_in_place, build, kernels
from tongwen.native.kernels import kernels as find_kernels

compiled = kernels()
needs_kernels = pytest.mark.skipif(compiled is None, reason="no C++ compiler")


@needs_kernels
def test_kernels_are_compiled_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.load_library(tmp_path / "cache")
    (library,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(build, "_compile", None)
    build.load_library(tmp_path / "cache")
    assert [library] == list((tmp_path / "cache").iterdir())


@needs_kernels
def test_kernels_share_the_threads_of_torch() -> None:
    """Two OpenMP libraries in one process would fight for the cores."""
    code = (
        "from tongwen.native import kernels; kernels()\n"
        "lines = open('/proc/self/maps').read().splitlines()\n"
        "print(len({line.split()[-1] for line in lines if 'libgomp' in line}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_without_a_compiler_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    find_kernels.cache_clear()
    try:
        assert kernels() is None
        assert kernels() is None
        said = capsys.readouterr().err
        assert said.count("no C++ compiler (g++) was found") == 1
    finally:
        find_kernels.cache_clear()


def test_what_does_not_compile_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.cpp").write_text("nonsense;", encoding="utf-8")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    with pytest.raises(build.CannotBuild):
        build.load_library(tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_do_not_depend_on_the_number_of_threads(dtype: torch.dtype) -> None:
    assert compiled is not None
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(run_everything(compiled, dtype))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def run_everything(compiled: Kernels, dtype: torch.dtype) -> list[torch.Tensor]:
    """Outputs of the kernels on one random row."""
    source = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=source).to(dtype)

    heads, begin_M1 = Heads(4, 2, 16, 0.25), torch.tensor([0, 5, 70, 71, 200])
    x, weight, q, k, v, dout = (
        draw(200, 64), draw(64), draw(200, 64), draw(200, 32), draw(200, 32), draw(200, 64),
    )  # fmt: skip
    out, log_total = compiled.attention(heads, begin_M1, q, k, v)
    compiled.attention_backward(heads, begin_M1, (q, k, v), out, dout, log_total)
    dweight = torch.empty(64)
    dx = compiled.rms_norm_backward(x, weight, 1e-5, dout, None, dweight)
    return [out, q, k, v, dweight, dx, compiled.swiglu(x)]


@needs_kernels
@given(seed=st.integers(0, 99), scale=st.floats(0.1, 80.0))
def test_exponentials_are_exact_to_rounding(seed: int, scale: float) -> None:
    """Seen through a softmax over two logits: 1 / (1 + exp(-x))."""
    assert compiled is not None
    logit = torch.randn(40, generator=torch.Generator().manual_seed(seed)) * scale
    logits_CV = torch.stack([logit, torch.zeros_like(logit)], dim=1)
    loss_C = compiled.cross_entropy(logits_CV, torch.ones(40, dtype=torch.int64), torch.ones(40))
    expected = torch.sigmoid(logit.double())
    torch.testing.assert_close(logits_CV[:, 0].double(), expected, rtol=1e-6, atol=1e-30)
    torch.testing.assert_close(
        loss_C.double(), torch.nn.functional.softplus(logit.double()), rtol=2e-6, atol=2e-7
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_added_in_place_loses_nothing(dtype: torch.dtype, turned: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    total = torch.randn(97, 131, generator=generator)
    part = torch.randn(97, 131, generator=generator).to(dtype)
    if turned:
        part = part.t().contiguous().t()
    expected = total + part.float()
    add_in_place(total, part)
    assert torch.equal(total, expected)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_bit_weights_are_restored_to_the_bit(dtype: torch.dtype) -> None:
    assert compiled is not None
    layer = NF4Linear(torch.randn(48, 128, generator=torch.Generator().manual_seed(0)))
    codes = layer.codes_OI.int()
    nibbles = torch.stack([codes >> 4, codes & 15], dim=-1).view(-1, 64)
    expected = (torch.tensor(VALUES)[nibbles] * layer.absmax()[:, None]).to(dtype).flatten()
    got = torch.empty(48, 128, dtype=dtype)
    compiled.dequantize_4bit(layer.codes_OI, layer.absmax(), torch.tensor(VALUES), got)
    assert torch.equal(got.flatten(), expected)
    assert torch.equal(layer.dequantize(dtype).flatten(), expected)
