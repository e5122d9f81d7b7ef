"""Let a model see more tokens than it was trained with, by its rotary positions.

A rotary embedding (Su et al. 2021, arXiv:2104.09864) turns the pairs of a head's D dimensions by
position · base^(-2i/D). Beyond the window of training the slow pairs reach angles that were never
seen. The ways to mend it, each in the form that transformers reads from `rope_parameters`:

    base      a larger base slows every pair; few steps of training on long text settle it
    linear    positions are divided by the factor (Chen et al. 2023, arXiv:2306.15595)
    dynamic   the base grows with the length at hand ("NTK-aware"), without any training
    yarn      fast pairs stay, slow ones are divided, those between are mixed, and attention is
              sharpened (Peng et al. 2023, arXiv:2309.00071)
"""

from __future__ import annotations

import math
from typing import Any

from transformers import PreTrainedModel

from tongwen.config import Rope
from tongwen.errors import ConfigError, ModelError


def extend_context(
    model: PreTrainedModel, window: int, method: Rope, theta: float | None = None
) -> None:
    """Extend the window of a model to `window` tokens; its configuration says so from now on."""
    config = model.config
    before = dict(config.rope_parameters)
    kind = before.get("rope_type", "default")
    trained = int(before.get("original_max_position_embeddings") or config.max_position_embeddings)
    if kind not in ("default", method) or "rope_theta" not in before:
        raise ModelError(
            f"the model's positions are of the kind `{kind}` already",
            f"extend the model that it was made from, or give `--rope {kind}`",
        )
    if window <= config.max_position_embeddings:
        raise ConfigError(
            f"the model sees {config.max_position_embeddings:,} tokens already, --context asks for "
            f"{window:,}",
            "give a larger --context, or leave --rope out",
        )
    config.rope_parameters = _parameters(
        method, before["rope_theta"], trained, window, theta, config
    )
    config.max_position_embeddings = window
    rotary = getattr(model.base_model, "rotary_emb", None)
    if rotary is None:
        raise ModelError(
            f"a {config.model_type} model has no rotary positions that could be extended",
            "leave --rope out",
        )
    model.base_model.rotary_emb = type(rotary)(config=config).to(rotary.inv_freq.device)


def _parameters(
    method: Rope, base: float, trained: int, window: int, theta: float | None, config: Any
) -> dict[str, Any]:
    if method == "base":
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        return {
            "rope_type": "default",
            "rope_theta": theta or reaching_base(base, width, trained, window),
        }
    return {
        "rope_type": method,
        "rope_theta": base,
        "factor": window / trained,
        "original_max_position_embeddings": trained,
    }


def reaching_base(base: float, width: int, trained: int, window: int) -> float:
    """The smallest base with which a model trained on `trained` tokens reaches `window`.

    Liu et al. 2023, arXiv:2310.05209: the pairs that turned full circle in training, `critical` of
    the `width` dimensions, reach 2π·base^(critical/width) tokens.
    """
    critical = 2 * math.ceil(width / 2 * math.log(trained / (2 * math.pi), base))
    return float(max(base, (window / (2 * math.pi)) ** (width / critical)))
