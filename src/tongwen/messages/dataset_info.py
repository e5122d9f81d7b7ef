"""LLaMA-Factory's `dataset_info.json`: entries are understood as they stand there.

An entry names a file (or a place in the network), its formatting, its columns and its tags. As in
LLaMA-Factory, an entry that names some columns has only those, and one that names none has the
usual ones; tags that are not named keep their usual values.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tongwen.errors import ConfigError, DataError
from tongwen.messages.fields import quoted, type_name
from tongwen.messages.mapping import (
    ConversationMapping,
    Mapping,
    PreferenceMapping,
    QuestionAnswerMapping,
    TextMapping,
    mapping_of,
    read_mapping,
)
from tongwen.settings import nearest

HUBS: Final = {
    "hf_hub_url": "the Hugging Face hub",
    "ms_hub_url": "ModelScope",
    "om_hub_url": "Modelers",
    "cloud_file_name": "cloud storage",
}
MEDIA: Final = ("images", "videos", "audios")
COLUMNS: Final = (
    *("prompt", "query", "response", "history", "messages", "system", "tools"),
    *("chosen", "rejected", "kto_tag"),
    *MEDIA,
)
TAGS: Final = {
    "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt"),
    "observation_tag": ("tool", "observation"),
    "function_tag": ("call", "function_call"),
    "system_tag": ("system", "system"),
}
"""Names of tags, with our role and LLaMA-Factory's usual value."""
NAMES: Final = {
    "alpaca": ("from", "value"),
    "sharegpt": ("from", "value"),
    "openai": ("role", "content"),
}
KEYS: Final = (
    *HUBS,
    *("script_url", "file_name", "formatting", "ranking", "subset", "split", "folder"),
    *("num_samples", "columns", "tags", "load_from"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One data set of a `dataset_info.json`."""

    name: str
    mapping: Mapping
    file: Path | None
    """The file or folder, beside the `dataset_info.json`; None for data sets in the network."""
    hub: str | None
    """Where in the network the data set is, in words."""
    split: str | None
    subset: str | None

    def source(self) -> Path:
        """The file or folder; raise a DataError if it is not on this machine."""
        if self.file is None:
            raise DataError(
                f"the data set '{self.name}' is at {self.hub}, not on this machine",
                "download it, and name the files as the source with this entry as the mapping",
            )
        if not self.file.exists():
            raise DataError(
                f"the data set '{self.name}' is to be in {self.file}, which does not exist",
                "put the file there, or mend `file_name`",
            )
        return self.file


def load_mapping(path: str | Path, name: str | None = None) -> Mapping:
    """A mapping from a TOML file, or from one entry of a `dataset_info.json`.

    The entry is named apart, or behind the file: `data/dataset_info.json#my_data`.
    """
    file, _, behind = str(path).partition("#")
    name = name or behind or None
    if Path(file).suffix.lower() == ".json":
        return load_entry(Path(file), name).mapping
    if name is not None:
        raise ConfigError(
            f"{file} has one mapping, none of the name '{name}'", "leave the name out"
        )
    return read_mapping(Path(file))


def load_entry(file: Path, name: str | None) -> Entry:
    """One entry of a `dataset_info.json`; a ConfigError says what in it cannot be done."""
    entries = _read(file)
    if name is None:
        raise ConfigError(
            f"{file} has {len(entries)} data sets: which of them?", f"write {file}#NAME"
        )
    if name not in entries:
        meant = nearest(name, list(entries))
        hint = f"did you mean '{meant}'?" if meant else f"there are {quoted(entries)}"
        raise ConfigError(f"{file} has no data set '{name}'", hint)
    return entry_of(name, entries[name], file)


def entry_of(name: str, values: object, file: Path) -> Entry:
    """Understand one entry as LLaMA-Factory does, or refuse it by the key that it cannot have."""
    where = f"the data set '{name}' in {file}"
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {type_name(values)}, not an object", "mend the entry")
    columns, tags = values.get("columns", {}), values.get("tags", {})
    _known(where, values, KEYS)
    _known(f"the columns of {where}", columns, COLUMNS)
    _known(f"the tags of {where}", tags, ("role_tag", "content_tag", *TAGS))
    _refuse(where, values, columns)
    hub = next((f"{words} as {values[key]}" for key, words in HUBS.items() if key in values), None)
    place = values.get("file_name")
    return Entry(
        name=name,
        mapping=_mapping(where, values, columns, tags),
        file=file.parent / place if place and not hub else None,
        hub=hub,
        split=values.get("split"),
        subset=values.get("subset"),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        entries = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not valid JSON: {error}", "mend the JSON") from None
    if not isinstance(entries, dict):
        raise ConfigError(
            f"{file} is {type_name(entries)}, not an object", 'write {"name": {"file_name": …}}'
        )
    return entries


def _known(where: str, values: object, known: tuple[str, ...]) -> None:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} are {type_name(values)}, not an object", "mend the entry")
    for key in values:
        if key not in known:
            meant = nearest(key, known)
            hint = f"did you mean '{meant}'?" if meant else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown key '{key}' in {where}", hint)


def _refuse(where: str, values: dict[str, Any], columns: dict[str, Any]) -> None:
    if media := [key for key in MEDIA if columns.get(key)]:
        raise ConfigError(
            f"{where} has the column '{media[0]}': other media than text are not supported",
            "leave the column out if the text alone is of use",
        )
    if "script_url" in values:
        raise ConfigError(f"{where} is made by a script, and no code of a data set is run")
    if values.get("num_samples"):
        raise ConfigError(
            f"{where} asks for {values['num_samples']} rows drawn from it by 'num_samples'",
            "write the rows that you want into a file of their own",
        )
    if values.get("formatting", "alpaca") not in NAMES:
        raise ConfigError(
            f"{where} has the formatting '{values['formatting']}'", f"known: {', '.join(NAMES)}"
        )


def _mapping(
    where: str, values: dict[str, Any], columns: dict[str, Any], tags: dict[str, Any]
) -> Mapping:
    formatting = values.get("formatting", "alpaca")
    usual = {"messages": "conversations" if formatting == "sharegpt" else "messages"}
    if formatting == "alpaca":
        usual = {"prompt": "instruction", "query": "input", "response": "output"}
    if values.get("ranking"):
        usual |= {"chosen": "chosen", "rejected": "rejected"}
    columns = columns or usual
    beside = {key: columns[key] for key in ("system", "tools", "history") if columns.get(key)}
    question = [columns[key] for key in ("prompt", "query") if columns.get(key)]
    if values.get("ranking"):
        answers = {key: columns.get(key, key) for key in ("chosen", "rejected")}
        asked = {"question": question} if formatting == "alpaca" else _listed("prompt", columns)
        return mapping_of(
            where, PreferenceMapping, {**beside, **asked, **answers, **_said(formatting, tags)}
        )
    if columns.get("kto_tag"):
        beside["label"] = columns["kto_tag"]
    if formatting != "alpaca":
        listed = {**_listed("list", columns), **_said(formatting, tags)}
        return mapping_of(where, ConversationMapping, {**beside, **listed})
    if not columns.get("response"):
        return mapping_of(where, TextMapping, {"text": question})
    return mapping_of(
        where,
        QuestionAnswerMapping,
        {**beside, "question": question, "answer": columns["response"]},
    )


def _listed(key: str, columns: dict[str, Any]) -> dict[str, Any]:
    return {key: columns.get("messages", "conversations")}


def _said(formatting: str, tags: dict[str, Any]) -> dict[str, Any]:
    """Where a message keeps its role and text, and the names of the roles."""
    role, content = NAMES[formatting]
    return {
        "role": tags.get("role_tag", role),
        "content": tags.get("content_tag", content),
        "roles": {our: [tags.get(tag, usual)] for tag, (our, usual) in TAGS.items()},
    }
