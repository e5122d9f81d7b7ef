"""One typed, flat, frozen configuration per verb.

The command line, a TOML file and the Python API say the same things: `tongwen pretrain --data D
--size 5m`, `data = ["D"]` and `size = "5m"` in a file given with `--config`, and
`tongwen.pretrain(PretrainConfig(data=["D"], size="5m"))`. The docstring under each field is its
help text, its page in the reference and its description in `tongwen config schema VERB`.

Nothing heavy is imported here: `tongwen --help` must answer at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Rate = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, le=10**9)]
Sources = Annotated[list[str | Path], Field(min_length=1)]
"""Files, folders, patterns, URLs and data sets."""
VocabSize = Annotated[int, Field(ge=300)]


class Config(BaseModel):
    """What all configurations share: frozen, documented, and no key that is not a field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    def toml(self) -> str:
        """The settings as a TOML file; a setting that is None is left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        # JSON's strings, numbers, booleans and arrays are TOML's, but for the character DEL.
        lines = [
            f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
            for key, value in values.items()
        ]
        return "\n".join([*lines, ""])
