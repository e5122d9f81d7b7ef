"""Everything Tongwen raises on purpose.

    TongwenError            catch this one to catch them all
    ├── ConfigError         an option, a key or a value that cannot be meant
    ├── DataError           a file, a row or a prepared folder that cannot be used
    ├── ModelError          a model, tokenizer or adapter folder that cannot be used
    └── RunError            a run that cannot go on: owned by another process, changed, broken

The message says what is wrong and with which value, in one line and without a full stop. The hint
says what to do about it. A wrong assumption of our own is an `assert`, never one of these.
"""

from __future__ import annotations


class TongwenError(Exception):
    """A mistake that the user can mend; shown as `error: …` and `hint: …`, exit code 2."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(TongwenError):
    """An option, a key or a value that cannot be meant."""


class DataError(TongwenError):
    """A file, a row or a prepared folder that cannot be used."""


class ModelError(TongwenError):
    """A model, tokenizer or adapter folder that cannot be used."""


class RunError(TongwenError):
    """A run that cannot go on."""
