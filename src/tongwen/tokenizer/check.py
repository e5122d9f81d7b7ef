"""`tokenizer check`: what is wrong with a tokenizer, in lines that say how to mend it.

Most models that never stop talking were trained with an end token that nobody stops at. So the
control tokens are compared wherever they are written: in the tokenizer, in `config.json`, in
`generation_config.json` and in what the chat template prints; then texts that are easily damaged
are encoded and decoded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from tongwen.config import TokenizerCheckConfig
from tongwen.errors import ModelError
from tongwen.messages import encode_text
from tongwen.tokenizer.folder import PLACES, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Severity = Literal["error", "warning", "note"]

ROLES: Final = ("bos", "eos", "pad")
PROBE: Final = "tongwen7"
"""An answer that no template contains."""
TEXTS: Final[Mapping[str, str]] = {
    "Chinese": "今天天气很好，我们去公园散步。“好！”他说……",
    "rare Hanzi": "𠮷野家的龘龘爨爨",
    "English": "It's 3.14, isn't it? Don't-stop (now)!",
    "code": "def f(x):\n\treturn {'a': x ** 2}  # ok\n",
    "emoji": "👩‍👩‍👧‍👦🇨🇳🙂",
    "blanks": "  two  three   four ",
    "newlines": "a\n\nb\n\n\nc\r\nd\n",
    "full width": "ＡＢＣ１２３，～①㎡",
    "accents": "café naïve Ωμέγα русский",
    "control characters": "a\x00b\x7fc\u200bd\ufeffe",
    "mark of blanks": "a▁b",
}
"""Texts that tokenizers damage, by what is special in them."""


@dataclass(frozen=True)
class Finding:
    """One thing to know or to mend."""

    severity: Severity
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.what}\n  mend: {self.mend}"


@dataclass(frozen=True)
class TokenizerCheckResult:
    """All findings; `ok` where none of them is an error."""

    tokenizer: Path
    ok: bool
    vocab_size: int
    bos: str | None
    eos: str | None
    pad: str | None
    added_in_front: tuple[str, ...]
    """Tokens that encoding adds before a text where control tokens are asked for."""
    added_behind: tuple[str, ...]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        count = dict.fromkeys(("error", "warning", "note"), 0)
        for finding in self.findings:
            count[finding.severity] += 1
        last = ", ".join(f"{number} {name}s" for name, number in count.items())
        return "\n".join([*map(str, self.findings), f"{self.tokenizer}: {last}"])


@dataclass(frozen=True)
class _Subject:
    """A tokenizer and the settings that lie beside it."""

    tokenizer: PreTrainedTokenizerFast
    config: Mapping[str, Any] | None
    generation: Mapping[str, Any] | None
    stated: Mapping[str, Any]
    """tokenizer_config.json as it is written."""

    def named(self, number: int) -> str:
        return f"{number} “{self.tokenizer.convert_ids_to_tokens(number)}”"

    def ends(self) -> set[int]:
        """The ids at which generation stops."""
        for settings in (self.generation, self.config):
            if settings is not None and settings.get("eos_token_id") is not None:
                return set(_ids(settings["eos_token_id"]))
        return _ids_of(self.tokenizer.eos_token_id)


def tokenizer_check(config: TokenizerCheckConfig) -> TokenizerCheckResult:
    """Find what is wrong with a tokenizer: control tokens, template, ends, round trips."""
    subject = _subject(config.tokenizer)
    rules: tuple[Callable[[_Subject], Iterable[Finding]], ...] = (
        _control_tokens,
        _padding,
        _rows,
        _settings,
        _template,
        _encoding,
        _round_trips,
    )
    findings = [finding for rule in rules for finding in rule(subject)]
    order = ("error", "warning", "note")
    findings.sort(key=lambda finding: order.index(finding.severity))
    tokenizer = subject.tokenizer
    front, behind = _added(tokenizer)
    return TokenizerCheckResult(
        config.tokenizer,
        ok=all(finding.severity != "error" for finding in findings),
        vocab_size=len(tokenizer),
        bos=tokenizer.bos_token,
        eos=tokenizer.eos_token,
        pad=tokenizer.pad_token,
        added_in_front=tuple(tokenizer.convert_ids_to_tokens(front)),
        added_behind=tuple(tokenizer.convert_ids_to_tokens(behind)),
        findings=tuple(findings),
    )


def _subject(path: Path) -> _Subject:
    tokenizer = load_tokenizer(path)
    places = [path / place for place in PLACES] if path.is_dir() else []
    place = next((place for place in places if (place / "tokenizer.json").is_file()), path)

    def settings(name: str) -> dict[str, Any] | None:
        file = place / name
        if not (place.is_dir() and file.is_file()):
            return None
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{file} is not JSON: {error}", "copy the folder again") from error
        if not isinstance(value, dict):
            raise ModelError(f"{file} is not a JSON object", "copy the folder again")
        return value

    config = settings("config.json")
    if config is not None:
        config = config | config.get("text_config", {})
    return _Subject(
        tokenizer,
        config,
        settings("generation_config.json"),
        settings("tokenizer_config.json") or {},
    )


def _control_tokens(subject: _Subject) -> Iterator[Finding]:
    tokenizer = subject.tokenizer
    for role in ROLES:
        if subject.stated.get(f"{role}_token") == "":
            yield Finding(
                "error",
                f"tokenizer_config.json names an empty {role} token",
                f'write the real one there, for example "{role}_token": "</s>"',
            )
    eos = tokenizer.eos_token_id
    if eos is None:
        yield Finding(
            "error",
            "the tokenizer has no eos token, so nothing tells a model where a text ends",
            'name one in tokenizer_config.json: "eos_token": "…"',
        )
        return
    added = tokenizer.added_tokens_decoder
    if eos not in added or not added[eos].special:
        yield Finding(
            "error",
            f"the eos token {subject.named(eos)} is no control token, but text that may be cut",
            'mark it in tokenizer.json under "added_tokens" with "special": true',
        )
    if eos == tokenizer.unk_token_id:
        yield Finding("error", "eos is the unknown token", "give eos a token of its own")
    for role in ("bos", "eos"):
        usual = {"bos": "<s>", "eos": "</s>"}[role]
        number = getattr(tokenizer, f"{role}_token_id")
        there = tokenizer.get_vocab().get(usual)
        if there is not None and number != there and number in {0, 1, 2}:
            yield Finding(
                "error",
                f"{role} is {subject.named(number)}, but the vocabulary has {there} “{usual}”",
                f'set "{role}_token" to "{usual}"; early LLaMA conversions had bos 0 and eos 1',
            )


def _padding(subject: _Subject) -> Iterator[Finding]:
    pad, eos = subject.tokenizer.pad_token_id, subject.tokenizer.eos_token_id
    if pad is None:
        yield Finding(
            "note",
            "there is no padding token",
            "nothing to do for Tongwen, which does not pad; others want one: never take eos",
        )
    elif pad == eos:
        yield Finding(
            "warning",
            f"padding is the eos token {subject.named(pad)}: a trainer that masks padding masks "
            "every end, and the model never learns to stop",
            "train with a mask by position, as Tongwen does, or add a padding token of its own",
        )


def _rows(subject: _Subject) -> Iterator[Finding]:
    rows = (subject.config or {}).get("vocab_size")
    highest = max(subject.tokenizer.get_vocab().values())
    if isinstance(rows, int) and highest >= rows:
        yield Finding(
            "error",
            f"the tokenizer has ids up to {highest:,}, the model has {rows:,} rows of embeddings",
            "they do not belong together; `tongwen tokenizer extend --model` grows a model",
        )


def _settings(subject: _Subject) -> Iterator[Finding]:
    """The ids in config.json and generation_config.json against the tokenizer's."""
    files = {"config.json": subject.config, "generation_config.json": subject.generation}
    rows = (subject.config or {}).get("vocab_size", len(subject.tokenizer))
    for name, settings in files.items():
        for role in ROLES:
            stated = _ids((settings or {}).get(f"{role}_token_id"))
            own = getattr(subject.tokenizer, f"{role}_token_id")
            for number in stated:
                if not 0 <= number < rows:
                    yield Finding(
                        "error",
                        f"{name} says {role} is {number}, outside of the {rows:,} rows",
                        f'correct "{role}_token_id" in {name}',
                    )
            if stated and own is not None and own not in stated:
                severity: Severity = "error" if role == "eos" else "warning"
                there = ", ".join(subject.named(n) for n in stated if 0 <= n < rows) or stated
                yield Finding(
                    severity,
                    f"{name} says {role} is {there}, the tokenizer says {subject.named(own)}",
                    f'set "{role}_token_id" in {name} to {own}',
                )


def _template(subject: _Subject) -> Iterator[Finding]:
    tokenizer = subject.tokenizer
    if not tokenizer.chat_template:
        yield Finding(
            "note",
            "there is no chat template: the tokenizer of a base model",
            "conversations need one; tokenizers of `tongwen tokenizer train` have it",
        )
        return
    messages = [{"role": "user", "content": "1"}, {"role": "assistant", "content": PROBE}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as error:  # a template raises what it likes
        yield Finding(
            "error", f"the chat template fails: {error}", "copy it again from the model's source"
        )
        return
    before, found, behind = text.partition(PROBE)
    if not found:
        yield Finding("error", "the chat template loses the answer", "copy it again")
        return
    yield from _end_of_answer(subject, behind)
    bos = tokenizer.bos_token
    if bos and before.startswith(bos) and _added(tokenizer)[0] == [tokenizer.bos_token_id]:
        yield Finding(
            "warning",
            f"both the chat template and encoding put {bos} in front: encoded as usual, a "
            "conversation begins with two",
            "encode what the template prints with add_special_tokens=False",
        )


def _end_of_answer(subject: _Subject, behind: str) -> Iterator[Finding]:
    tokenizer = subject.tokenizer
    ids = tokenizer.encode(behind.lstrip(), add_special_tokens=False)
    added = tokenizer.added_tokens_decoder
    if not ids or ids[0] not in added or not added[ids[0]].special:
        yield Finding(
            "error",
            f"the chat template ends an answer with {behind[:20]!r}, not with a control token: a "
            "model trained with it does not know where to stop",
            "put the eos token behind each answer in the template",
        )
    elif ids[0] not in subject.ends():
        yield Finding(
            "error",
            f"the chat template ends an answer with {subject.named(ids[0])}, generation stops at "
            f"{', '.join(map(subject.named, sorted(subject.ends()))) or 'nothing'}",
            f'add {ids[0]} to "eos_token_id" in generation_config.json',
        )


def _encoding(subject: _Subject) -> Iterator[Finding]:
    tokenizer = subject.tokenizer
    front, behind = _added(tokenizer)
    eos = tokenizer.eos_token
    if eos is None:
        return
    if tokenizer.eos_token_id not in behind:
        adds = " ".join(tokenizer.convert_ids_to_tokens(front)) or "nothing"
        yield Finding(
            "note",
            f"encoding adds {adds} in front and no {eos} behind: texts encoded as usual do not end",
            f"append {eos} to every training text; `tongwen data prepare` does",
        )
    else:
        yield Finding(
            "warning",
            f"encoding adds {eos} behind every text, so a prompt ends before its answer begins",
            "encode prompts with add_special_tokens=False",
        )
    if encode_text(tokenizer, eos) != [tokenizer.eos_token_id]:
        yield Finding(
            "note",
            f"text that spells {eos} becomes the control token in transformers",
            "keep it out of prompts of strangers; Tongwen encodes it as the text it is",
        )


def _round_trips(subject: _Subject) -> Iterator[Finding]:
    tokenizer = subject.tokenizer
    for name, text in TEXTS.items():
        ids = encode_text(tokenizer, text)
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if back == text:
            continue
        unknown = tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids
        yield Finding(
            "warning",
            f"{name}: {text!r} comes back as {back!r}"
            + (", with unknown tokens" if unknown else ""),
            "text with such characters is changed by this tokenizer; a byte-level one keeps all",
        )


def _added(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """What encoding adds before and behind a text."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    for place in range(len(full) - len(plain) + 1):
        if full[place : place + len(plain)] == plain:
            return full[:place], full[place + len(plain) :]
    return [], []


def _ids(value: object) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, int)]


def _ids_of(number: int | None) -> set[int]:
    return set() if number is None else {number}
