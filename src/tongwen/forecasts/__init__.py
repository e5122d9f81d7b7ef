"""Forecasts: what a training takes in memory, time and disk, before anything is spent."""

from __future__ import annotations

from tongwen.forecasts.answer import forecast
from tongwen.forecasts.result import Forecast

__all__ = ["Forecast", "forecast"]
