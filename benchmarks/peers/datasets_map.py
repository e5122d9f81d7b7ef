"""What a user of Hugging Face `datasets` runs: read JSON, tokenise with `map`, save to disk.

Run by ../prepare.py with the interpreter that has `datasets` and `transformers`.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def main() -> None:
    job = json.loads(sys.argv[1])
    datasets: Any = importlib.import_module("datasets")
    transformers: Any = importlib.import_module("transformers")
    datasets.disable_progress_bars()
    started = time.perf_counter()
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["tokenizer"])
    rows = datasets.load_dataset("json", data_files=job["file"], split="train")
    work = texts if job["kind"] == "text" else answers
    done = rows.map(
        work,
        fn_kwargs={"tokenizer": tokenizer},
        batched=True,
        num_proc=job["processes"] or None,
        remove_columns=rows.column_names,
        load_from_cache_file=False,
    )
    done.save_to_disk(job["out"])
    seconds = time.perf_counter() - started
    table = done.data
    result = {
        "version": f"datasets {datasets.__version__}, transformers {transformers.__version__}",
        "seconds": seconds,
        "rows": len(done),
        "tokens": _flat(table, "input_ids"),
    }
    if job["kind"] != "text":
        trained = table.column("assistant_masks").combine_chunks().flatten()
        result["trained"] = int(sum(trained.to_numpy(zero_copy_only=False)))
    print("RESULT " + json.dumps(result))


def texts(batch: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Documents, each with the end mark behind it."""
    ended = [text + tokenizer.eos_token for text in batch["text"]]
    return {"input_ids": tokenizer(ended, add_special_tokens=False)["input_ids"]}


def answers(batch: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Questions and answers through the chat template, with the mask of the answers."""
    talks = []
    rows = zip(batch["instruction"], batch["input"], batch["output"], strict=True)
    for instruction, given, output in rows:
        question = f"{instruction}\n{given}" if given else instruction
        talks.append(
            [{"role": "user", "content": question}, {"role": "assistant", "content": output}]
        )
    encoded = tokenizer.apply_chat_template(
        talks, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return {name: encoded[name] for name in ("input_ids", "assistant_masks")}


def _flat(table: Any, name: str) -> int:
    return int(sum(len(chunk.flatten()) for chunk in table.column(name).chunks))


if __name__ == "__main__":
    main()
