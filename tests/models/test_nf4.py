"""NF4 and int8: bitsandbytes' values, and QLoRA exactly LoRA over them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.models.adapters import items, llama, loss, packed_logits, stir
from torch import Tensor, nn

from tongwen.config import AdapterConfig
from tongwen.config.adapter import Quant
from tongwen.errors import ModelError
from tongwen.models.adapter import adapt
from tongwen.models.nf4 import VALUES, NF4Linear, dynamic_values
from tongwen.models.quantized import Int8Linear
from tongwen.models.streaming import KINDS, load_quantized
from tongwen.models.targets import replace

GOLDEN = Path(__file__).with_name("bitsandbytes.safetensors")


def test_codes_and_restored_weights_are_those_of_bitsandbytes() -> None:
    """The file was made by bitsandbytes 0.50.2 from the weights in it."""
    golden = load_file(GOLDEN)
    layer = NF4Linear(golden["weight"])
    assert torch.equal(layer.codes_OI.flatten(), golden["codes"].flatten())
    assert torch.equal(layer.absmax_N, golden["absmax"])
    assert torch.equal(layer.group_absmax_G, golden["group_absmax"])
    assert torch.equal(layer.offset, golden["offset"])
    assert torch.equal(dynamic_values(), golden["dynamic_values"])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(layer.dequantize(dtype), golden["restored"].to(dtype))
    rows = Int8Linear(golden["weight"].half())
    assert torch.equal(rows.codes_OI, golden["int8"])
    assert torch.equal(rows.absmax_O, golden["int8_absmax"])


def test_what_bitsandbytes_makes_of_other_weights() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    source = torch.Generator().manual_seed(3)
    for shape in ((64, 128), (96, 1024), (512, 192)):
        weight = 0.02 * torch.randn(shape, generator=source)
        codes, state = functional.quantize_4bit(
            weight, blocksize=64, quant_type="nf4", compress_statistics=True
        )
        layer = NF4Linear(weight)
        assert torch.equal(layer.codes_OI.flatten(), codes.flatten())
        assert torch.equal(layer.group_absmax_G, state.state2.absmax)
        assert torch.equal(layer.offset, state.offset)
        # Its CPU kernels divide by an approximate reciprocal, so that a magnitude halfway between
        # two of the 256 values may go to the farther one.
        off = layer.absmax_N.int() - state.absmax.int()
        assert off.abs().max() <= 1
        assert off.count_nonzero() <= 0.01 * len(off)
        layer.absmax_N = state.absmax
        theirs = functional.dequantize_4bit(codes, state)
        assert torch.equal(layer.dequantize(torch.float32), theirs)


@given(
    rows=st.integers(1, 40),
    blocks=st.integers(1, 5),
    scale=st.sampled_from([1e-6, 0.02, 300.0]),
    seed=st.integers(0, 99),
)
def test_every_weight_becomes_the_nearest_value_of_its_block(
    rows: int, blocks: int, scale: float, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    weight = scale * torch.randn(rows, 64 * blocks, generator=source)
    layer = NF4Linear(weight)
    restored = layer.dequantize(torch.float32).view(-1, 64)
    block = weight.view(-1, 64)
    exact = block.abs().amax(1, keepdim=True)
    # The widest gap between neighbouring values is 0.304 of the largest magnitude of the block,
    # whose own error is bounded by the widest gap of the 256 values.
    slack = (layer.absmax()[:, None] - exact).abs()
    assert ((restored - block).abs() <= 0.1521 * exact + slack + 1e-12).all()
    assert slack.max() <= 0.008 * (exact - exact.mean()).abs().max() + 1e-6 * scale


def test_a_weight_takes_about_four_bits() -> None:
    layer = NF4Linear(torch.randn(1024, 1024))
    size = sum(buffer.nbytes for buffer in layer.buffers())
    assert 8 * size / 1024**2 == pytest.approx(4.127, abs=0.001)
    assert not list(layer.parameters())
    assert len(VALUES) == 16


def test_zeros_stay_zeros() -> None:
    for kind in (NF4Linear, Int8Linear):
        assert torch.equal(kind(torch.zeros(4, 64)).dequantize(torch.float32), torch.zeros(4, 64))


@pytest.mark.parametrize("kind", [NF4Linear, Int8Linear])
def test_the_gradient_is_that_of_the_restored_weight(kind: type[NF4Linear | Int8Linear]) -> None:
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=source)
    bias = nn.Parameter(torch.randn(48, generator=source), requires_grad=False)
    x = torch.randn(3, 5, 64, generator=source, requires_grad=True)
    layer = kind(weight, bias)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer(x)
    assert kept == [], "nothing is kept for the backward pass"
    expected = nn.functional.linear(x, layer.dequantize(torch.float32), bias)
    assert torch.equal(y, expected)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", [NF4Linear, Int8Linear])
@pytest.mark.parametrize("dora", [False, True])
def test_qlora_is_lora_over_the_restored_weights(
    kind: type[NF4Linear | Int8Linear], dora: bool
) -> None:
    quantised, restored = llama(), llama()
    for name, layer in list(quantised.named_modules()):
        if isinstance(layer, nn.Linear) and name != "lm_head":
            stored = kind(layer.weight.detach(), layer.bias)
            replace(quantised, name, stored)
            restored.get_parameter(f"{name}.weight").data = stored.dequantize(torch.float32)
    parts = items([20, 31])
    gradients = []
    for model in (quantised, restored):
        adapt(model, AdapterConfig(method="lora", dora=dora), seed=0)
        stir(model)
        logits = packed_logits(model, parts)
        loss(logits).backward()
        learning = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        gradients.append((logits, learning))
    assert torch.equal(gradients[0][0], gradients[1][0])
    for name, gradient in gradients[0][1].items():
        assert torch.equal(gradient, gradients[1][1][name]), name


@pytest.mark.parametrize("quant", ["nf4", "int8"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_is_quantised_while_it_is_read(tmp_path: Path, quant: Quant, tied: bool) -> None:
    whole = llama(tie_word_embeddings=tied)
    whole.save_pretrained(tmp_path, max_shard_size="100KB")
    model = load_quantized(tmp_path, quant, None)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, KINDS[quant])}
    assert len(layers) == 14
    for name, layer in layers.items():
        expected = KINDS[quant](whole.get_parameter(f"{name}.weight").detach(), layer.bias)
        assert torch.equal(layer.dequantize(torch.float32), expected.dequantize(torch.float32))
        replace(whole, name, expected)
    parts = items([20, 11])
    assert torch.equal(packed_logits(model, parts), packed_logits(whole, parts))
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    odd = llama(hidden_size=40, intermediate_size=44, head_dim=8)
    odd.save_pretrained(tmp_path / "odd")
    with pytest.raises(ModelError, match="no whole blocks of 64"):
        load_quantized(tmp_path / "odd", "nf4", None)
    model = llama()
    model.model.layers[0].mlp.extra = nn.Linear(4, 4)
    model.save_pretrained(tmp_path / "more")
    with pytest.raises(ModelError, match=r"mlp\.extra\.\w+, which LlamaForCausalLM has no place"):
        load_quantized(tmp_path / "more", "nf4", None)
    del model.model.layers[0].mlp.extra, model.model.layers[1].mlp.up_proj
    model.save_pretrained(tmp_path / "less")
    with pytest.raises(ModelError, match=r"lacks the weight model\.layers\.1\.mlp\.up_proj"):
        load_quantized(tmp_path / "less", "nf4", None)
