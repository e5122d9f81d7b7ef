"""What LLaMA-Factory makes of one file: the text of its rows, and what of it is trained on.

Run by ../malformed.py with the interpreter that has `llamafactory`. The file is declared in
dataset_info.json as its documentation says for the layout of the sound rows.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

STAGES = {"preference": "rm", "kto": "kto"}
IGNORED = -100


def main() -> None:
    file, layout, tokenizer = sys.argv[1:]
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    parser: Any = importlib.import_module("llamafactory.hparams.parser")
    data: Any = importlib.import_module("llamafactory.data")
    model: Any = importlib.import_module("llamafactory.model")
    environment: Any = importlib.import_module("llamafactory.extras.env")
    stage = STAGES.get(layout, "sft")
    folder = Path(tempfile.mkdtemp())
    information = {"rows": {"file_name": file, **declaration(Path(file), layout)}}
    (folder / "dataset_info.json").write_text(json.dumps(information), encoding="utf-8")
    arguments = {
        "model_name_or_path": tokenizer,
        "template": "chatml",
        "stage": stage,
        "do_train": True,
        "finetuning_type": "lora" if stage in ("rm", "kto") else "full",
        "dataset": "rows",
        "dataset_dir": str(folder),
        "overwrite_cache": True,
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "report_to": "none",
    }
    model_args, data_args, training_args, _, _ = parser.get_train_args(arguments)
    module = model.load_tokenizer(model_args)
    template = data.get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    done = data.get_dataset(template, model_args, data_args, training_args, stage=stage, **module)
    rows = [texts(row, module["tokenizer"]) for row in done["train_dataset"]]
    version = f"LLaMA-Factory {environment.VERSION}"
    print("RESULT " + json.dumps({"version": version, "rows": rows}))


def declaration(file: Path, layout: str) -> dict[str, Any]:
    """The entry of dataset_info.json that the documentation gives for a layout."""
    if layout == "sharegpt":
        return {"formatting": "sharegpt", "columns": {"messages": "conversations"}}
    if layout == "openai":
        tags = {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
            "observation_tag": "tool",
        }
        return {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    if layout == "preference":
        columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
        return {"ranking": True, "columns": columns}
    columns = {"prompt": "instruction", "response": "output"}
    if file.suffix != ".csv" or "input" in header(file):
        columns["query"] = "input"
    if layout == "kto":
        columns["kto_tag"] = "kto_tag"
    return {"columns": columns}


def header(file: Path) -> list[str]:
    """The names of the columns of a table."""
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        return next(csv.reader(lines), [])


def texts(row: dict[str, Any], tokenizer: Any) -> dict[str, str]:
    """All the text of a row, and what of it carries loss."""
    names = [name for name in ("labels", "chosen_labels", "rejected_labels") if name in row]
    learned = [[i for i in row[name] if i != IGNORED] for name in names]
    seen = [row[name.replace("labels", "input_ids")] for name in names]
    return {
        "seen": "\n".join(map(tokenizer.decode, seen)),
        "learned": "\n".join(map(tokenizer.decode, learned)),
    }


if __name__ == "__main__":
    main()
