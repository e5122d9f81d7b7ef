"""Settings of the rules that decide which rows are worth training on, and mend what they can."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from tongwen.config.base import Config, Count
from tongwen.errors import ConfigError

Part = Annotated[float, Field(gt=0.0, le=1.0)]

RULES: Final = (
    "mojibake",
    "unicode",
    "boilerplate",
    "leaks",
    "script",
    "personal",
    "words",
    "instructions",
    "language",
    "length",
    "symbols",
    "repetition",
)
"""Every rule, in the order in which they are applied: what mends comes before what measures."""
SETS: Final = {"basic": RULES[:4], "all": RULES, "none": ()}
"""Names for several rules. The basic ones leave good text as it is."""
SETTINGS: Final = {
    "script": "script",
    "personal": "personal",
    "words": "words",
    "languages": "language",
    "min_chars_zh": "length",
    "min_chars_en": "length",
    "max_chars": "length",
    "max_symbols": "symbols",
    "max_repetition": "repetition",
}
"""The rule that a setting belongs to; another value than the default switches the rule on."""


class CleaningConfig(Config):
    """Which rules are applied to rows."""

    clean: list[str] = Field(default=["basic"])
    """Rules by name, or the sets `basic` (mojibake, unicode, boilerplate, leaks), `all`, `none`."""
    leaks: Literal["filter", "mend"] = "filter"
    """What befalls a row with leaked template text: dropped, or cut where the cut is certain."""
    script: Literal["keep", "simplified", "traditional"] = "keep"
    """Chinese script that all texts are converted to."""
    personal: Literal["keep", "mask", "drop"] = "keep"
    """What befalls phone, identity card and bank card numbers and e-mail addresses."""
    words: list[Path] = Field(default=[])
    """Files of harmful words, one a line; a row that holds one is dropped."""
    max_words: Count = 0
    """Harmful words that are let pass in every 10,000 characters of a document or message."""
    languages: list[Literal["zh", "en", "mixed", "other"]] = Field(default=["zh", "en", "mixed"])
    """Languages of the rows that are kept."""
    min_chars_zh: Count = 10
    """Fewest characters of a Chinese document."""
    min_chars_en: Count = 30
    """Fewest characters of a document in any other language."""
    max_chars: Count = 0
    """Most characters of a row, all its texts together; 0 for no limit."""
    max_symbols: Part = 0.35
    """Largest share of signs among the characters of a text, or of its lines with odd ends."""
    max_repetition: Part = 0.5
    """Largest share of a text that says again what it said shortly before."""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules to apply, in order: those named, and those with a setting of their own."""
        chosen = {rule for name in self.clean for rule in SETS.get(name, (name,))}
        fields = type(self).model_fields
        chosen |= {
            rule
            for setting, rule in SETTINGS.items()
            if getattr(self, setting) != fields[setting].default
        }
        return tuple(rule for rule in RULES if rule in chosen)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.clean:
            if name not in RULES and name not in SETS:
                raise _unknown(name)
        if "words" in self.clean and not self.words:
            raise ConfigError(
                "the rule words has no list", "name a file with --words, one word a line"
            )
        return self


def _unknown(name: str) -> ConfigError:
    near = difflib.get_close_matches(name, (*RULES, *SETS), 1, 0.5)
    nearest = f"did you mean {near[0]}? " if near else ""
    return ConfigError(f"no rule is called {name!r}", f"{nearest}rules: {', '.join(RULES)}")
