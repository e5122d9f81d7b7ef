"""Model folders: made, found, loaded, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from tongwen.config import AdapterConfig
from tongwen.errors import ModelError
from tongwen.models import SHAPES, load_base, load_model, new_model, resolve_model
from tongwen.models.flops import training_flops
from tongwen.models.folder import load_weights
from tongwen.models.quantized import Int8Linear
from tongwen.models.sizes import shape_config

# Vocabulary that a nominal size counts, and how far the real size may be from it.
NOMINAL = {"1m": (4096, 1e6), "5m": (8192, 5e6), "25m": (32000, 25e6), "135m": (65024, 135e6)}


@pytest.mark.parametrize("size", NOMINAL)
def test_a_size_means_what_it_says(size: str) -> None:
    vocab_size, nominal = NOMINAL[size]
    with torch.device("meta"):
        model = new_model(size, vocab_size, 512, seed=0)  # type: ignore[arg-type]
    count = sum(p.numel() for p in model.parameters())
    assert 0.8 * nominal < count < 1.4 * nominal


def test_the_large_shapes_have_the_sizes_of_their_names() -> None:
    from transformers import LlamaForCausalLM

    for size, nominal in (("350m", 350e6), ("1b", 1.2e9)):
        with torch.device("meta"):
            model = LlamaForCausalLM(shape_config(size, 65024, 2048))  # type: ignore[arg-type]
        assert abs(sum(p.numel() for p in model.parameters()) / nominal - 1) < 0.1
    assert list(SHAPES) == ["1m", "5m", "25m", "135m", "350m", "1b"]


def test_weights_follow_from_the_seed_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (new_model("1m", 512, 64, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(next(a.parameters()), next(c.parameters()))


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model = new_model("1m", 512, 64, seed=0)
    model.save_pretrained(tmp_path / "final")
    again = load_model(tmp_path, torch.float32)
    assert resolve_model(tmp_path) == tmp_path / "final"
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_will_learn_comes_as_it_is_stored(tmp_path: Path, dtype: torch.dtype) -> None:
    fresh = new_model("1m", 300, 64, 0)
    for parameter in fresh.parameters():
        parameter.data = parameter.data.to(dtype)
    fresh.save_pretrained(tmp_path)
    model = load_base(tmp_path, AdapterConfig())
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


def test_weights_of_several_precisions_are_loaded_in_the_widest(tmp_path: Path) -> None:
    model = new_model("1m", 300, 64, 0).bfloat16()
    exact = torch.full_like(model.model.norm.weight, 1 / 3, dtype=torch.float32)
    model.model.norm.weight.data = exact
    model.save_pretrained(tmp_path)
    loaded = load_base(tmp_path, AdapterConfig())
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.model.norm.weight, exact)


def test_scales_that_would_be_rounded_are_loaded_in_fp32(tmp_path: Path) -> None:
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=1, head_dim=8,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    Gemma3ForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    exact = load_weights(tmp_path, torch.float32)
    loaded = load_base(tmp_path, AdapterConfig())
    for ours, theirs in zip(loaded.buffers(), exact.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_no_model_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        resolve_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_model(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ModelError, match="not finished"):
        resolve_model(tmp_path)
    model = new_model("1m", 512, 64, seed=0)
    model.config.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="no safetensors weights"):
        load_model(tmp_path / "m", torch.float32)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path / "m", torch.float32)


def test_flops_of_a_step_are_counted_by_hand() -> None:
    model = new_model("1m", 512, 64, seed=0)
    body = 4 * (4 * 128 * 128 + 3 * 128 * 384 + 2 * 128) + 128
    expected = 6 * body * 30 + 6 * 512 * 128 * 7 + 6 * 4 * 128 * (10 * 10 + 20 * 20)
    assert training_flops(model, [10, 20], 7) == expected
    # Weights that do not learn cost no gradient of their own.
    model.requires_grad_(requires_grad=False)
    expected = 4 * body * 30 + 4 * 512 * 128 * 7 + 6 * 4 * 128 * (10 * 10 + 20 * 20)
    assert training_flops(model, [10, 20], 7) == expected


def test_quantised_weights_are_work_though_they_are_no_parameters() -> None:
    model = new_model("1m", 512, 64, seed=0)
    model.requires_grad_(requires_grad=False)
    plain = training_flops(model, [30], 7)
    mlp = model.model.layers[0].mlp
    mlp.up_proj = Int8Linear(mlp.up_proj.weight.detach())
    assert training_flops(model, [30], 7) == plain
