"""Data, tokenizers and random models that the training benchmarks share, made once.

    python benchmarks/material.py --data FOLDER --out MATERIAL [--sizes 25m 135m]

FOLDER holds, at any depth, Alpaca rows and preference pairs in English and Chinese, the files
alpaca_en_demo.json, alpaca_zh_demo.json, dpo_en_demo.json and dpo_zh_demo.json of LLaMA-Factory's
folder `data`, and documents, one {"text": …} on a line: its c4_demo.jsonl, and d2l_zh.jsonl with
the chapters of a Chinese book. The tokenizers are trained on every alpaca*.json that is there; with
the 52,002 rows of Alpaca and as many Chinese ones their tokens are as long as those of a real
vocabulary.

    MATERIAL/135m/model        random weights, a tokenizer, a chat template
    MATERIAL/135m/alpaca       conversations, in each tool's own form:
        rows.json                  as text: Alpaca rows, preferences or documents
        tokens.json                ids, and which of them are learned
        prepared/                  what `tongwen data prepare` made of rows.json
    MATERIAL/135m/pairs        preferences
    MATERIAL/135m/text         documents
    MATERIAL/135m/alpaca-first, pairs-first, text-first: what fills one step, for its loss

Conversations and preferences of more than 512 tokens are left out: tools cut them at different
places, and then they would not do the same work.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tongwen.config import DataPrepareConfig, Size
from tongwen.data import TokenStore, data_prepare
from tongwen.files import new_folder
from tongwen.models import new_model
from tongwen.tokenizer import save_tokenizer, train_tokenizer

VOCABULARY: Final[dict[Size, int]] = {"25m": 32_000, "135m": 65_024}
LONGEST: Final = 512
ROWS: Final = 400
"""Of each language: together about 30 steps of 4,096 tokens."""
FIRST: Final = {"alpaca": 20, "pairs": 4, "text": 1}
"""Items of a single step; packed, they fit into 8 rows of 512 tokens."""
TEXT_BYTES: Final = 400_000
"""Of each language."""
# ChatML without the newline behind an answer, of which tools differ whether it is learned.
TEMPLATE: Final = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ROLES: Final = {"system": "system", "human": "user", "gpt": "assistant"}
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", choices=VOCABULARY, default=list(VOCABULARY))
    arguments = parser.parse_args()
    for size in arguments.sizes:
        place = arguments.out / size
        if not place.exists():
            with new_folder(place) as folder:
                make(size, arguments.data, folder)


def make(size: Size, data: Path, folder: Path) -> None:
    """Everything for models of one size."""
    model = folder / "model"
    tokenizer = train_tokenizer(_texts(data), VOCABULARY[size])
    tokenizer.chat_template = TEMPLATE
    new_model(size, VOCABULARY[size], LONGEST, seed=0).save_pretrained(model)
    save_tokenizer(tokenizer, model)
    chosen = {"alpaca": _alpaca(data), "pairs": _pairs(data), "text": _documents(data)}
    for kind, rows in chosen.items():
        short = [row for row in rows if max(_lengths(tokenizer, row)) <= LONGEST]
        _write(folder / kind, rows if kind == "text" else short, model)
        _write(folder / f"{kind}-first", short[: FIRST[kind]], model)


def _write(folder: Path, rows: Sequence[Row], model: Path) -> None:
    folder.mkdir(parents=True)
    source = folder / "rows.json"
    source.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    prepared = folder / "prepared"
    done = data_prepare(
        DataPrepareConfig(
            sources=[source], out=prepared, tokenizer=model, max_length=LONGEST, hold_out=0.0
        )
    )
    assert done.used == len(rows), f"{done.used} of {len(rows)} rows of {source} are used"
    assert done.cut_tokens == 0, f"{done.cut_tokens} tokens of {source} are cut"
    store = TokenStore.open(prepared, "train")
    items = range(len(store))
    tokens = [{"ids": store.ids(i).tolist(), "mask": store.mask(i).tolist()} for i in items]
    (folder / "tokens.json").write_text(json.dumps(tokens), encoding="utf-8")


def _lengths(tokenizer: Any, row: Row) -> list[int]:
    """Tokens of the items that a row becomes."""
    if "text" in row:
        return [len(tokenizer(row["text"])["input_ids"]) + 2]
    if "chosen" in row:
        talks = [[*row["prompt"], *row["chosen"]], [*row["prompt"], *row["rejected"]]]
    else:
        talks = [talk(row)]
    return [len(tokenizer.apply_chat_template(one)["input_ids"]) for one in talks]


def talk(row: Row) -> list[dict[str, str]]:
    """An Alpaca row as messages."""
    question = row["instruction"] + (f"\n{row['input']}" if row["input"] else "")
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": row["output"]},
    ]


def _alpaca(data: Path) -> list[Row]:
    """Rows of both languages in a random order, none twice and none empty."""
    rows = [
        row
        for name in ("alpaca_en_demo.json", "alpaca_zh_demo.json")
        for row in _unique(row for row in _read(data, name) if row["output"].strip())[:ROWS]
    ]
    random.Random(0).shuffle(rows)
    return rows


def _pairs(data: Path) -> list[Row]:
    """Preferences of both languages as messages, in a random order."""
    rows = []
    for name in ("dpo_en_demo.json", "dpo_zh_demo.json"):
        for row in _read(data, name):
            said = {key: [_message(row[key])] for key in ("chosen", "rejected")}
            rows.append({"prompt": [_message(turn) for turn in row["conversations"]], **said})
    random.Random(0).shuffle(rows)
    return _unique(rows)


def _message(turn: dict[str, str]) -> dict[str, str]:
    """A turn in ShareGPT's words."""
    return {"role": ROLES[turn["from"]], "content": turn["value"]}


def _documents(data: Path) -> list[Row]:
    """The first documents of each language."""
    rows = []
    for name in ("*c4_demo.jsonl", "d2l_zh.jsonl"):
        size = 0
        for line in _find(data, name).read_text(encoding="utf-8").splitlines():
            size += len(line.encode())
            if size > TEXT_BYTES:
                break
            rows.append({"text": json.loads(line)["text"]})
    random.Random(0).shuffle(rows)
    return _unique(rows)


def _unique(rows: Iterable[Row]) -> list[Row]:
    return list({json.dumps(row): row for row in rows}.values())


def _read(data: Path, name: str) -> list[Row]:
    rows: list[Row] = json.loads(_find(data, name).read_text(encoding="utf-8"))
    return rows


def _find(data: Path, name: str) -> Path:
    """The file of this name somewhere below `data`."""
    found = sorted(data.rglob(name))
    if not found:
        raise SystemExit(f"{name} is not in {data}")
    return found[0]


def _texts(data: Path) -> Iterable[str]:
    for path in sorted(data.rglob("alpaca*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            yield "\n".join(row[key] for key in ("instruction", "input", "output") if row.get(key))


if __name__ == "__main__":
    main()
