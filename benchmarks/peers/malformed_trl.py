"""What TRL makes of one file: the text of its rows, and what of it is trained on.

Run by ../malformed.py with the interpreter that has `trl`. The file is read with `load_dataset` by
its ending; layouts that TRL does not read itself are turned into prompt and completion by the few
lines that its documentation tells users to write. The trainer then prepares the rows.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

READERS = {".csv": "csv", ".parquet": "parquet", ".txt": "text"}
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
IGNORED = -100


def main() -> None:
    file, layout, folder = sys.argv[1:]
    datasets: Any = importlib.import_module("datasets")
    transformers: Any = importlib.import_module("transformers")
    trl: Any = importlib.import_module("trl")
    reader = READERS.get(Path(file).suffix, "json")
    rows = datasets.load_dataset(reader, data_files=file, split="train")
    turn = {"alpaca": asked, "sharegpt": renamed, "kto": judged}.get(layout)
    if turn is not None:
        rows = rows.map(turn, remove_columns=rows.column_names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    arguments: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
    }
    if layout in ("sharegpt", "openai"):
        arguments["assistant_only_loss"] = True
    name = {"preference": "DPO", "kto": "KTO"}.get(layout, "SFT")
    trainer = getattr(trl, f"{name}Trainer")(
        model=tiny(transformers, len(tokenizer)),
        args=getattr(trl, f"{name}Config")(**arguments),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    prepared = [texts(row, tokenizer) for row in trainer.train_dataset]
    version = f"TRL {trl.__version__}, datasets {datasets.__version__}"
    print("RESULT " + json.dumps({"version": version, "rows": prepared}))


def asked(row: dict[str, Any]) -> dict[str, Any]:
    """Alpaca as prompt and completion."""
    question = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": row["output"]}],
    }


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """Alpaca with a judgement."""
    return {**asked(row), "label": row["kto_tag"]}


def renamed(row: dict[str, Any]) -> dict[str, Any]:
    """ShareGPT as messages."""
    turns = row["conversations"]
    return {"messages": [{"role": ROLES[t["from"]], "content": t["value"]} for t in turns]}


def tiny(transformers: Any, size: int) -> str:
    """A model that costs nothing, on disk, from where its reference copy is loaded too."""
    config = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    folder = tempfile.mkdtemp()
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def texts(row: dict[str, Any], tokenizer: Any) -> dict[str, str]:
    """All the text of a row, and what of it carries loss."""
    if "labels" in row:
        learned = [[i for i in row["labels"] if i != IGNORED]]
        seen = [row["input_ids"]]
    else:
        names = ("chosen_ids", "rejected_ids", "completion_ids")
        learned = [row[name] for name in names if name in row]
        seen = [row["prompt_ids"], *learned]
    return {
        "seen": "\n".join(map(tokenizer.decode, seen)),
        "learned": "\n".join(map(tokenizer.decode, learned)),
    }


if __name__ == "__main__":
    main()
