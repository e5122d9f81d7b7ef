"""LLaMA-Factory's preprocessing: what `llamafactory-cli train` does up to `tokenized_path`.

Run by ../prepare.py with the interpreter that has `llamafactory`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    job = json.loads(sys.argv[1])
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    parser: Any = importlib.import_module("llamafactory.hparams.parser")
    data: Any = importlib.import_module("llamafactory.data")
    model: Any = importlib.import_module("llamafactory.model")
    environment: Any = importlib.import_module("llamafactory.extras.env")
    text = job["kind"] == "text"
    folder = Path(job["out"]).parent / "llamafactory"
    folder.mkdir(exist_ok=True)
    entry: dict[str, Any] = {"file_name": job["file"]}
    if text:
        entry["columns"] = {"prompt": "text"}
    (folder / "dataset_info.json").write_text(json.dumps({"rows": entry}), encoding="utf-8")
    arguments = {
        "model_name_or_path": job["tokenizer"],
        "stage": "pt" if text else "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "rows",
        "dataset_dir": str(folder),
        "cutoff_len": job["max_length"],
        "overwrite_cache": True,
        "preprocessing_num_workers": job["processes"] or None,
        "tokenized_path": job["out"],
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "report_to": "none",
    }
    stage = arguments["stage"]
    model_args, data_args, training_args, _, _ = parser.get_train_args(arguments)
    started = time.perf_counter()
    module = model.load_tokenizer(model_args)
    template = data.get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    done = data.get_dataset(template, model_args, data_args, training_args, stage=stage, **module)
    seconds = time.perf_counter() - started
    table = done["train_dataset"].data
    result = {
        "version": f"LLaMA-Factory {environment.VERSION}",
        "seconds": seconds,
        "rows": len(done["train_dataset"]),
        "tokens": int(sum(len(chunk.flatten()) for chunk in table.column("input_ids").chunks)),
    }
    if not text:
        labels = table.column("labels").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        result["trained"] = int((labels != -100).sum())
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
