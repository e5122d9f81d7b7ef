"""Training: pretraining and fine-tuning on one loop."""

from __future__ import annotations

from tongwen.train.result import TrainResult
from tongwen.train.stages import finetune, pretrain

__all__ = ["TrainResult", "finetune", "pretrain"]
