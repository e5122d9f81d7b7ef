"""The Hugging Face Trainer on text, its tokens grouped into blocks as its `run_clm.py` does.

Run by ../pretrain.py with the interpreter that has `transformers`. The documents come tokenised.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from steps import Steps, arguments


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    items = json.loads((Path(job["data"]) / "tokens.json").read_text())
    tokens = list(chain.from_iterable(item["ids"] for item in items))
    # Less than a block is a block of its own here, where run_clm.py drops what is left.
    block = min(job["cutoff"], len(tokens))
    starts = range(0, len(tokens) - block + 1, block)
    blocks = [tokens[start : start + block] for start in starts]
    steps = Steps(pad_token_id=None)
    steps.watch(transformers.Trainer)
    trainer = transformers.Trainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
        args=transformers.TrainingArguments(
            **arguments(job),
        ),
        train_dataset=Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in blocks]),
        data_collator=transformers.default_data_collator,
        callbacks=[steps],
    )
    trainer.train()
    steps.report(f"transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
