"""TRL's direct preference optimisation.

Run by ../dpo.py with the interpreter that has `trl`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from steps import Steps, arguments


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    steps = Steps(tokenizer.pad_token_id)
    steps.watch(trl.DPOTrainer)
    trainer = trl.DPOTrainer(
        model=job["model"],
        args=trl.DPOConfig(
            model_init_kwargs={"dtype": "float32"},
            max_length=job["cutoff"],
            **arguments(job),
        ),
        train_dataset=Dataset.from_list(json.loads((Path(job["data"]) / "rows.json").read_text())),
        processing_class=tokenizer,
        callbacks=[steps],
    )
    trainer.train()
    steps.report(f"TRL {trl.__version__}")


if __name__ == "__main__":
    main()
