"""Chat templates by name, for models and adapters that were trained without storing one.

    alpaca          Stanford Alpaca, Chinese-Vicuna (instruct), KnowLM
    vicuna-chat     Chinese-Vicuna (chat)
    oneke           OneKE
    vicuna          Vicuna 1.1 and later
    index           Index-1.9B
    aquila-chat     AquilaChat
    aquila          AquilaChat2-7B-16K
    aquila-legacy   AquilaChat2-34B
    aquila-v1       AquilaChat2-7B
    aquila-v2       AquilaChat2-70B
    tongwen         our own, in the form of ChatML

Each is a Jinja file in the folder `templates`. The end of an answer is the tokenizer's eos token.
"""

from __future__ import annotations

import copy
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tongwen.errors import ConfigError, DataError
from tongwen.messages.template import FOLDER

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SAME: Final = {"knowlm": "alpaca", "chinese-vicuna": "alpaca", "chatml": "tongwen"}
"""Other names."""
SUFFIX: Final = ".jinja"


def template_names() -> list[str]:
    """The names that `named_template` knows."""
    return sorted([place.name.removesuffix(SUFFIX) for place in FOLDER.iterdir()] + list(SAME))


def named_template(name: str) -> str:
    """The chat template of this name; an unknown one is a ConfigError that names the nearest."""
    names = template_names()
    if name not in names:
        near = get_close_matches(name.lower(), names, n=1)
        raise ConfigError(
            f"no chat template is called '{name}'",
            f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}",
        )
    return (FOLDER / f"{SAME.get(name, name)}{SUFFIX}").read_text(encoding="utf-8")


def with_template(tokenizer: PreTrainedTokenizerFast, name: str | Path) -> PreTrainedTokenizerFast:
    """A tokenizer like this one with another chat template: one of ours, or a Jinja file."""
    path = Path(name)
    if path.suffix in (SUFFIX, ".j2", ".txt") or len(path.parts) > 1:
        try:
            template = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise DataError(
                f"{path} cannot be read as a chat template: {why}",
                "give a Jinja file in UTF-8, or the name of a template",
            ) from None
    else:
        template = named_template(str(name))
    other = copy.copy(tokenizer)
    other.chat_template = template
    return other
