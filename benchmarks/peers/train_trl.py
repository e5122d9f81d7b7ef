"""TRL's supervised fine-tuning.

Run by ../sft.py with the interpreter that has `trl` and `peft`. The rows come tokenised, so that
nothing but the training differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from steps import IGNORED, Steps, arguments


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    steps = Steps(tokenizer.pad_token_id)
    steps.watch(trl.SFTTrainer)
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32),
        args=trl.SFTConfig(
            max_length=job["cutoff"],
            **arguments(job),
        ),
        train_dataset=Dataset.from_list([_row(item) for item in _items(Path(job["data"]))]),
        processing_class=tokenizer,
        peft_config=_adapter(job["rank"]) if job["method"] == "lora" else None,
        callbacks=[steps],
    )
    trainer.train()
    steps.report(f"TRL {trl.__version__}")


def _items(data: Path) -> list[dict[str, list[int]]]:
    items: list[dict[str, list[int]]] = json.loads((data / "tokens.json").read_text())
    return items


def _row(item: dict[str, list[int]]) -> dict[str, list[int]]:
    ids, mask = item["ids"], item["mask"]
    labels = [token if learned else IGNORED for token, learned in zip(ids, mask, strict=True)]
    return {"input_ids": ids, "labels": labels}


def _adapter(rank: int) -> object:
    import peft

    return peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip


if __name__ == "__main__":
    main()
