"""What becomes of the keys that say what learns, from what, and by which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, get_args

from tongwen.config.align import DpoLoss, Objective
from tongwen.data.foreign_config import Answer, Asked, idle, number, refused, taken, words

Converter = Callable[[Asked], Answer]

NOTHING_LIKE_IT: Final = "there is nothing like it here"
ADAMW: Final = (
    *("adamw", "adamw_hf", "adamw_torch", "adamw_torch_fused", "adamw_apex_fused"),
    "paged_adamw_32bit",
)
ADAMW_8BIT: Final = ("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit")
BETAS: Final = {"adam_beta1": 0.9, "adam_beta2": 0.999}
"""What all of them take where nothing is said."""
ADAPTERS: Final = ("lora", "qlora")
QUANTS: Final = {4: "nf4", 8: "int8"}
GROUPS: Final = ("all-embedding", "all-norm")
"""Names by which ms-swift means several layers."""


def _stage(it: Asked) -> Answer:
    foreign = it.foreign
    if it.value in (None, False, ""):
        return idle("not asked for")
    if not foreign.objective:
        return Answer("taken", f"as `tongwen {foreign.verb}`")
    if foreign.objective == "grpo":
        return refused("rewards are not brought over: give `tongwen align` its `--verify`")
    if foreign.objective not in get_args(Objective):
        return refused(f"'{foreign.objective}': {NOTHING_LIKE_IT}")
    if it.value == "ipo":
        return taken(objective="dpo", dpo_loss="ipo")
    return taken(objective=foreign.objective)


def _method(it: Asked) -> Answer:
    method = it.foreign.method
    if method == "full":
        return Answer("taken", "all weights are trained")
    return taken(method=method) if method in ADAPTERS else refused(f"'{method}': {NOTHING_LIKE_IT}")


def _bits(it: Asked) -> Answer:
    if not it.value:
        return idle("not asked for")
    if it.foreign.method != "qlora":
        return refused("weights in a few bits do not learn: an adapter over them does")
    quant = QUANTS.get(it.foreign.bits or 0)
    return taken(quant=quant) if quant else refused(f"weights are stored in {sorted(QUANTS)} bits")


def _quant_method(it: Asked) -> Answer:
    same = it.value in (None, "bnb", "bitsandbytes")
    return idle("NF4 has the same codes here") if same else refused(NOTHING_LIKE_IT)


def _quant_kind(it: Asked) -> Answer:
    return idle("the same here") if it.value in (None, "nf4") else refused(NOTHING_LIKE_IT)


def _double_quant(it: Asked) -> Answer:
    if it.value in (None, True):
        return idle("the scales of NF4 are always stored in 8 bits")
    return refused("the scales of NF4 are always stored in 8 bits")


def _rank(it: Asked) -> Answer:
    """LLaMA-Factory's rank, from which its alpha follows."""
    rank = number(it.value)
    if rank is None or it.foreign.values.get("lora_alpha") is not None:
        return taken(lora_r=it.value)
    return taken(lora_r=it.value, lora_alpha=2 * rank)


def _targets(it: Asked) -> Answer:
    if it.value in (None, False, ""):
        return idle("not asked for")
    names = [] if it.value is True else words(it.value)
    return taken(lora_targets=["all-linear"] if names in ([], ["all"]) else names)


def _saved(it: Asked) -> Answer:
    names = words(it.value) if it.value else []
    if groups := [name for name in names if name in GROUPS]:
        return refused(f"'{groups[0]}' is no layer: name the layers")
    return taken(modules_to_save=names) if names else idle("not asked for")


def _adapter(it: Asked) -> Answer:
    paths = words(it.value) if it.value else []
    if not paths:
        return idle("not asked for")
    if len(paths) > 1 or it.foreign.method not in ADAPTERS:
        return refused("put it into the weights first, with `tongwen model merge`")
    return taken(warm_start=paths[0])


def _optimiser(it: Asked) -> Answer:
    if it.value in ADAMW:
        return Answer("taken", "AdamW, with fp32 weights behind it")
    if it.value in ADAMW_8BIT:
        return taken(optimizer="adamw8bit")
    return refused(f"'{it.value}': {NOTHING_LIKE_IT}")


def _muon(it: Asked) -> Answer:
    return taken(optimizer="muon") if it.value else idle("not asked for")


def _betas(it: Asked) -> Answer:
    if it.value is None:
        return idle("not given")
    given = {key: number(it.foreign.values.get(key)) for key in BETAS}
    return taken(betas=[BETAS[key] if beta is None else beta for key, beta in given.items()])


def _beta(it: Asked) -> Answer:
    if it.value is None:
        return idle("not given")
    return taken(**{"orpo_lambda" if it.foreign.objective == "orpo" else "beta": it.value})


def _dpo_loss(it: Asked) -> Answer:
    if it.value is None or it.value == it.foreign.objective:
        return idle("the objective says it")
    if it.foreign.objective == "dpo" and it.value in get_args(DpoLoss):
        return taken(dpo_loss=it.value)
    return refused(f"'{it.value}': {NOTHING_LIKE_IT}")


def _plain_loss(it: Asked) -> Answer:
    """The weight of the plain loss beside SimPO's."""
    return refused("simpo has no plain loss beside it here") if it.value else idle("so it is here")


LEARNING: Final[Mapping[str, Converter]] = {
    "adapter": _adapter,
    "beta": _beta,
    "betas": _betas,
    "bits": _bits,
    "double_quant": _double_quant,
    "dpo_loss": _dpo_loss,
    "method": _method,
    "muon": _muon,
    "optimiser": _optimiser,
    "plain_loss": _plain_loss,
    "quant_kind": _quant_kind,
    "quant_method": _quant_method,
    "rank": _rank,
    "saved": _saved,
    "stage": _stage,
    "targets": _targets,
}
