"""The reference of the parity tests: transformers, PEFT and TRL on batches that are given.

Run by tests/peers with the interpreter that has `trl` and `peft`. The job says which rows each step
takes, the settings of AdamW, and where to write `losses.json` and the trained weights. An adapter
begins with random numbers in both of its matrices, written to `start` beforehand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
import trl
from datasets import Dataset

IGNORED = -100


class Losses(transformers.TrainerCallback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:
        if logs and "loss" in logs:
            self.values.append(logs["loss"])


class TokenisedDPO(trl.DPOTrainer):
    """TRL's trainer on pairs that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    out = Path(job["out"])
    losses = Losses()
    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    if job["method"] == "lora":
        model = _with_adapter(model, job)
    trainer = (_preferences if job["method"] == "dpo" else _answers)(model, job, losses)
    trainer.train()
    trainer.model.save_pretrained(out)
    (out / "losses.json").write_text(json.dumps(losses.values))


def _with_adapter(model: Any, job: dict[str, Any]) -> Any:
    torch.manual_seed(1)
    settings = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules="all-linear",
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(model, settings)
    adapted.save_pretrained(job["start"])
    return adapted


def _answers(model: Any, job: dict[str, Any], losses: Losses) -> Any:
    """Language modelling of the tokens that carry loss."""
    rows = [
        {
            "input_ids": item["ids"],
            "labels": [
                token if learned else IGNORED
                for token, learned in zip(item["ids"], item["mask"], strict=True)
            ],
        }
        for item in job["items"]
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**_arguments(job)),
        train_dataset=Dataset.from_list(rows),
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED),
        callbacks=[losses],
    )


def _preferences(model: Any, job: dict[str, Any], losses: Losses) -> Any:
    """DPO of items that come as a chosen one and a rejected one in turn."""
    answers = [_split(item) for item in job["items"]]
    rows = [
        {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
        for (prompt, chosen), (_, rejected) in zip(answers[::2], answers[1::2], strict=True)
    ]
    return TokenisedDPO(
        model=model,
        args=trl.DPOConfig(**_arguments(job), beta=0.1, gradient_checkpointing=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[losses],
    )


def _split(item: dict[str, Any]) -> tuple[list[int], list[int]]:
    """What is asked and what is learned; TRL learns all that stands behind a question."""
    ids, mask = item["ids"], item["mask"]
    begin = mask.index(True)
    return ids[:begin], ids[begin : begin + sum(mask)]


def _arguments(job: dict[str, Any]) -> dict[str, Any]:
    beta1, beta2 = job["betas"]
    return {
        "output_dir": job["out"],
        "per_device_train_batch_size": job["rows"],
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "learning_rate": job["lr"],
        "lr_scheduler_type": "constant",
        "adam_beta1": beta1,
        "adam_beta2": beta2,
        "adam_epsilon": job["eps"],
        "weight_decay": 0.0,
        "max_grad_norm": job["clip"],
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }


if __name__ == "__main__":
    main()
