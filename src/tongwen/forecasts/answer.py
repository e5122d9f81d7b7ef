"""`tongwen forecast`: what a training takes."""

from __future__ import annotations

import shutil

from tongwen.config import ForecastConfig
from tongwen.forecasts.case import Case, case_of, not_counted, with_run
from tongwen.forecasts.fit import proposals
from tongwen.forecasts.result import Forecast
from tongwen.forecasts.work import Supposed
from tongwen.models.cost import disk_bytes, reached


def forecast(config: ForecastConfig) -> Forecast:
    """Say what a training takes in memory, time and disk, before any weight is loaded."""
    case = case_of(with_run(config))
    recipe, memory = case.recipe, case.memory
    return Forecast(
        stage=_stage(case.config),
        model=str(case.config.model or f"a new model of size {case.config.size}"),
        parameters=case.anatomy.parameters,
        trainable=recipe.trainable(case.anatomy),
        machine=case.machine.name,
        precision=case.precision,
        memory=memory.kinds,
        phase=memory.phase,
        peak_bytes=memory.peak,
        margin=case.margin,
        available_bytes=case.available,
        host_bytes=memory.host,
        verdict=case.verdict,
        tokens_per_step=case.step.tokens,
        seconds_per_step=case.seconds_per_step,
        efficiency=reached(case.anatomy, recipe, case.step, case.speed),
        steps=case.steps,
        disk=disk_bytes(case.anatomy, recipe, case.config.keep),
        disk_free_bytes=float(shutil.disk_usage(".").free),
        assumptions=[*_assumptions(case), *map(_passed_over, not_counted(config))],
        proposals=proposals(case) if case.config.fit else None,
    )


def _stage(config: ForecastConfig) -> str:
    """What the training is called."""
    if config.objective is not None:
        return "align"
    return config.stage or ("pretrain" if config.model is None else "finetune")


def _passed_over(name: str) -> str:
    """A setting that changes nothing of the forecast, though it does of the training."""
    return f"{name} as if it were not given"


def _assumptions(case: Case) -> list[str]:
    """What was supposed where nothing was said."""
    said = []
    if isinstance(case.work, Supposed):
        said.append(f"items of {case.work.longest:,} tokens, all of which carry loss")
        if case.config.data:
            said.append("raw data has a token for every 4 bytes")
    if case.config.model is None and case.config.vocab_size is None and not case.config.data:
        said.append(f"a vocabulary of {case.anatomy.vocabulary:,} tokens")
    return said
