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
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["auto", "bf16", "fp32"]
Size = Literal["1m", "5m", "25m", "135m", "350m", "1b"]

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Rate = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, le=10**9)]
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


class QuickstartConfig(Config):
    """Teach a small bilingual model on this machine, examine it and talk to it."""

    out: Path = Path("quickstart")
    """Folder for everything that is made; run again with the same folder to continue."""
    seed: Seed = 0
    """Seed of the lessons, the first weights and the order of the rows."""
    scale: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the full course to teach; below 1 it is quicker and the exam is worse."""


class DataPrepareConfig(Config):
    """Turn text and conversations into a prepared folder: every row used, held out or rejected."""

    sources: Annotated[list[Path], Field(min_length=1)]
    """Files or folders: .txt, .md, .json, .jsonl; the layout of each is recognised and said."""
    out: Path
    """The prepared folder to write; it appears only when it is complete."""
    tokenizer: Path | None = None
    """Model or tokenizer folder; without one a tokenizer is trained on these sources."""
    vocab_size: VocabSize = 8192
    """Size of the tokenizer that is trained when none is given."""
    max_length: Positive = 2048
    """Longest conversation in tokens; a longer one is rejected, longer text is cut in pieces."""
    hold_out: Share = 0.01
    """Share of the rows kept away from training, chosen by their content and the seed."""
    seed: Seed = 0
    """Seed of the choice of held-out rows."""


class DataInspectConfig(Config):
    """Show what will be trained on, token by token."""

    source: Path
    """A prepared folder, or a file together with a tokenizer."""
    tokenizer: Path | None = None
    """Model or tokenizer folder, needed when the source is a file."""
    samples: Positive = 3
    """How many rows to show."""
    held_out: bool = False
    """Show held-out rows instead of training rows."""


class TokenizerTrainConfig(Config):
    """Train a byte-level BPE tokenizer for Chinese and English."""

    sources: Annotated[list[Path], Field(min_length=1)]
    """Files or folders of text or conversations."""
    out: Path
    """The tokenizer folder to write, in the Hugging Face format."""
    vocab_size: VocabSize = 8192
    """Number of tokens: 256 bytes, the control tokens, and merges up to this size."""


class TrainConfig(Config):
    """What pretraining and fine-tuning have in common."""

    out: Path
    """The run folder; the same command with the same folder continues an unfinished run."""
    steps: Positive | None = None
    """Optimiser steps; without it the steps follow from `epochs`."""
    epochs: Rate = 1.0
    """Passes over the training data, used when `steps` is not given."""
    batch_tokens: Positive = 8192
    """Tokens in one optimiser step."""
    micro_batch_tokens: Positive = 8192
    """Tokens in one forward pass; less takes less memory, the result is the same."""
    lr: Rate = 1e-3
    """Highest learning rate."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """Learning rate after warm-up: a cosine to a tenth, or stable and then a decay to zero."""
    warmup: Share = 0.03
    """Share of the steps in which the learning rate rises."""
    decay: Share = 0.2
    """Share of the steps that decay at the end of `wsd`; the checkpoint before it is kept."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    """Decoupled weight decay of matrices; norms and embeddings have none."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest gradient norm; 0 leaves the gradient as it is."""
    precision: Precision = "auto"
    """Compute precision; auto takes bf16 where its matrix products are faster here."""
    seed: Seed = 0
    """Seed of new weights and of the order of the rows."""
    save_every: Count = 0
    """Steps between checkpoints; 0 saves about every minute of training."""
    keep: Positive = 2
    """Checkpoints that are kept, besides the one before the decay."""
    eval_every: Count = 0
    """Steps between evaluations on held-out data; 0 evaluates ten times a run."""
    sample_every: Count = 0
    """Steps between sample texts; 0 samples at every evaluation."""
    threads: Count = 0
    """Compute threads; 0 takes one per physical core."""

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.schedule == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} and decay {self.decay} are more than the run")
        return self


class PretrainConfig(TrainConfig):
    """Train a language model on text, from scratch or from a model folder."""

    data: Annotated[list[Path], Field(min_length=1)]
    """Prepared folders, or files and folders of text, which are prepared first."""
    size: Size = "5m"
    """Nominal size of a new model; ignored when `model` is given."""
    model: Path | None = None
    """Model folder to go on from, instead of a new model."""
    tokenizer: Path | None = None
    """Tokenizer of a new model when `data` is raw; without one it is trained on the data."""
    context: Annotated[int, Field(ge=16)] = 512
    """Longest document piece in tokens, and the context window of a new model."""


class FinetuneConfig(TrainConfig):
    """Teach a model from conversations; the loss is on the assistant's words alone."""

    model: Path
    """Model folder or run folder to start from."""
    data: Annotated[list[Path], Field(min_length=1)]
    """Prepared folders, or files and folders of conversations, which are prepared first."""
    lr: Rate = 5e-4
    """Highest learning rate."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay of matrices; norms and embeddings have none."""


class SamplingConfig(Config):
    """How the next token is chosen."""

    max_new_tokens: Positive = 256
    """Longest answer in tokens."""
    temperature: Annotated[float, Field(ge=0.0, le=5.0)] = 0.7
    """Randomness; 0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Smallest set of tokens with this probability together."""
    top_k: Count = 0
    """Only the k likeliest tokens; 0 for all."""
    repetition_penalty: Annotated[float, Field(gt=0.0)] = 1.0
    """Divides the scores of tokens that already stand in the text; 1 for none."""
    seed: Seed | None = None
    """Seed of the choices; without one every answer differs."""


class ChatConfig(SamplingConfig):
    """Talk to a model in the terminal, or get one answer with `--prompt`."""

    model: Path
    """Model folder or run folder."""
    prompt: str | None = None
    """Answer this once and leave; `-` reads it from standard input."""
    system: str | None = None
    """System message that stays at the top of the conversation."""
    raw: bool = False
    """Continue plain text instead of answering a turn (for base models)."""
    context: Count = 0
    """Tokens of history and answer together; 0 takes the model's context window."""
