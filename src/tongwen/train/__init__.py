"""Training: pretraining and fine-tuning on one loop."""

from __future__ import annotations

from tongwen.train.stages import TrainResult, finetune, pretrain

__all__ = ["TrainResult", "finetune", "pretrain"]
