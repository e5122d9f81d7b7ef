"""`model merge`: an adapter and its base as one model folder, measured against both apart.

Legend: B rows of the probe, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import logging as transformers_logging

from tongwen.config import ModelMergeConfig
from tongwen.errors import ModelError
from tongwen.files import new_folder, refuse_existing
from tongwen.models.draws import generator
from tongwen.models.folder import is_adapter, load_weights, resolve_model, tokenizer_folder
from tongwen.models.merge import load_attached, merge
from tongwen.models.prefix import Prefix
from tongwen.tokenizer import load_tokenizer, save_tokenizer

ROWS, TOKENS = 8, 64
"""The probe: rows of tokens from all over the vocabulary."""
TOLERANCE = 1e-4
"""Largest difference of a logit, over the largest logit, that fp32 rounding explains."""


@dataclass(frozen=True)
class ModelMergeResult:
    """The merged model, and how far it is from the adapter beside its base."""

    out: Path
    max_logit_difference: float
    max_logit: float
    mean_kl: float
    """Mean over the probe's tokens of KL(adapter ‖ merged), in nats."""
    same_top: float
    """Share of the tokens whose likeliest successor is the same."""

    def __str__(self) -> str:
        return (
            f"logits differ by {self.max_logit_difference:.2g} at most, of {self.max_logit:.3g}; "
            f"KL {self.mean_kl:.2g} nats, the likeliest token is the same for {self.same_top:.2%}\n"
            f"model   {self.out}"
        )


def model_merge(config: ModelMergeConfig) -> ModelMergeResult:
    """Put an adapter into the weights of its base model, and measure what that changed."""
    refuse_existing(config.out)
    # Its bar over the files it writes would stand between our lines.
    transformers_logging.disable_progress_bar()
    place = resolve_model(config.adapter)
    if not is_adapter(place):
        raise ModelError(f"{config.adapter} is no adapter", "it is a whole model already")
    model = load_attached(place)
    if any(isinstance(module, Prefix) for module in model.modules()):
        raise ModelError(
            f"{config.adapter} is a prefix, which has no place in the weights of a model",
            "use it as it is, as an adapter",
        )
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    apart = _probe(model)
    dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
    merge(model, dtype)
    model.config.dtype = dtype
    with new_folder(config.out) as folder:
        model.save_pretrained(folder)
        save_tokenizer(load_tokenizer(tokenizer_folder(place)), folder)
        result = _compared(apart, _probe(load_weights(folder, torch.float32)), config.out)
        if config.precision == "fp32" and result.max_logit_difference > (
            TOLERANCE * result.max_logit
        ):
            raise ModelError(
                f"the merged model differs from the adapter over its base by "
                f"{result.max_logit_difference:.2g} in a logit of at most {result.max_logit:.3g}",
                "that is more than rounding; report it with the adapter_config.json",
            )
        told = json.dumps({**asdict(result), "out": str(config.out), "from": str(place)}, indent=1)
        (folder / "verify.json").write_text(told + "\n", encoding="utf-8")
    return result


@torch.inference_mode()
def _probe(model: PreTrainedModel) -> Tensor:
    """Logits [B·T, V] of rows that are the same for every model of a vocabulary."""
    ids_BT = torch.randint(
        0,
        model.config.get_text_config().vocab_size,
        (ROWS, TOKENS),
        generator=generator(0, "probe"),
    )
    logits_BTV: Tensor = model(input_ids=ids_BT, use_cache=False).logits
    return logits_BTV.flatten(0, 1).float()


def _compared(apart: Tensor, merged: Tensor, out: Path) -> ModelMergeResult:
    before, after = (torch.log_softmax(logits.double(), -1) for logits in (apart, merged))
    return ModelMergeResult(
        out=out,
        max_logit_difference=float((apart - merged).abs().max()),
        max_logit=float(apart.abs().max()),
        mean_kl=float((before.exp() * (before - after)).sum(-1).mean()),
        same_top=float((apart.argmax(-1) == merged.argmax(-1)).float().mean()),
    )
