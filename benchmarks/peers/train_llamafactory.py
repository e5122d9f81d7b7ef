"""LLaMA-Factory's training: what `llamafactory-cli train` runs.

Run by ../sft.py with the interpreter that has `llamafactory`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["DISABLE_VERSION_CHECK"] = "1"

import torch
import transformers
from llamafactory.extras.env import VERSION
from llamafactory.train.tuner import run_exp
from steps import Steps, arguments


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    data, out = Path(job["data"]), Path(job["out"])
    out.mkdir()
    entry = {"file_name": str(data / "rows.json")}
    (out / "dataset_info.json").write_text(json.dumps({"rows": entry}), encoding="utf-8")
    asked = arguments({**job, "out": str(out / "run")}) | {
        "model_name_or_path": job["model"],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": job["method"],
        "dataset": "rows",
        "dataset_dir": str(out),
        "cutoff_len": job["cutoff"],
        "overwrite_cache": True,
    }
    if job["method"] == "lora":
        asked |= {"lora_rank": job["rank"], "lora_alpha": 2 * job["rank"], "lora_target": "all"}
    pad = transformers.AutoTokenizer.from_pretrained(job["model"]).pad_token_id
    steps = Steps(pad)
    steps.watch(transformers.Trainer)
    run_exp(asked, callbacks=[steps])
    steps.report(f"LLaMA-Factory {VERSION}")


if __name__ == "__main__":
    main()
