"""Rows through the rules: mended, filtered, or as they were.

    row ─ mojibake ─ unicode ─ boilerplate ─ leaks ─ script ─ personal ─ … ─ repetition ─ row
          what mends comes before what measures; the first that filters ends it

Rules see one text at a time: that of a document, or the content and the thought of each message,
also of the chosen and the rejected answer. `language` and the longest length see all texts of a row
at once. Everything else about a row stays: roles, order, what is trained, tools and their calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tongwen.cleaning.boilerplate import boilerplate
from tongwen.cleaning.characters import unicode
from tongwen.cleaning.findings import Action, Finding, Found, Place, Rule, Verdict, excerpt
from tongwen.cleaning.instructions import instructions
from tongwen.cleaning.leaks import Leaks
from tongwen.cleaning.mojibake import mojibake
from tongwen.cleaning.personal import Personal
from tongwen.cleaning.quality import KeptLanguage, Length, OneScript, Repetition, Symbols
from tongwen.cleaning.words import Words
from tongwen.config.cleaning import CleaningConfig
from tongwen.messages.conversation import Conversation, Document, Item, Judged, Message, Preference
from tongwen.messages.texts import texts_of

MAKERS: Final[dict[str, Callable[[CleaningConfig], Rule | None]]] = {
    "mojibake": lambda _: mojibake,
    "unicode": lambda _: unicode,
    "boilerplate": lambda _: boilerplate,
    "leaks": lambda config: Leaks(mend=config.leaks == "mend"),
    "script": lambda config: None if config.script == "keep" else OneScript(config.script),
    "personal": lambda config: Personal(config.personal),
    "words": lambda config: Words(config.words, config.max_words) if config.words else None,
    "instructions": lambda _: instructions,
    "language": lambda config: KeptLanguage(config.languages),
    "length": lambda config: Length(config.min_chars_zh, config.min_chars_en, config.max_chars),
    "symbols": lambda config: Symbols(config.max_symbols),
    "repetition": lambda config: Repetition(config.max_repetition),
}
WHOLE: Final = frozenset({"language", "length"})
"""Rules that see all texts of a row at once."""


class _Filtered(Exception):
    """A rule found that the row is not to be used."""


class Cleaner:
    """Applies the rules of a configuration to rows. Pure: the same row gives the same verdict."""

    def __init__(self, config: CleaningConfig) -> None:
        made = ((name, MAKERS[name](config)) for name in config.rules)
        self._rules = [(name, rule) for name, rule in made if rule is not None]

    def __call__(self, item: Item) -> Verdict:
        """What becomes of a row, and what was found in it."""
        findings: list[Finding] = []
        try:
            for name, rule in self._rules:
                if name in WHOLE:
                    place: Place = "document" if isinstance(item, Document) else "user"
                    _text(name, rule, "\n".join(texts_of(item)), place, findings)
                else:
                    item = _item(name, rule, item, findings)
        except _Filtered:
            return Verdict(None, tuple(findings))
        return Verdict(item, tuple(findings))


def _item(name: str, rule: Rule, item: Item, findings: list[Finding]) -> Item:
    def messages(old: tuple[Message, ...]) -> tuple[Message, ...]:
        new = tuple(_message(name, rule, message, findings) for message in old)
        # The same object where nothing was mended keeps rows without faults free of copies.
        return old if all(a is b for a, b in zip(old, new, strict=True)) else new

    match item:
        case Document():
            text = _text(name, rule, item.text, "document", findings)
            return item if text is item.text else Document(text)
        case Conversation():
            return replace(item, messages=messages(item.messages))
        case Judged():
            conversation = item.conversation
            mended = replace(conversation, messages=messages(conversation.messages))
            return replace(item, conversation=mended)
        case Preference():
            prompt, chosen = messages(item.prompt), messages(item.chosen)
            rejected = messages(item.rejected)
            if chosen == rejected and item.chosen != item.rejected:
                detail = "the answers are the same once they are mended"
                findings.append(Finding(name, "filtered", detail, excerpt(chosen[0].content, 0)))
                raise _Filtered
            return replace(item, prompt=prompt, chosen=chosen, rejected=rejected)


def _message(name: str, rule: Rule, message: Message, findings: list[Finding]) -> Message:
    content = _text(name, rule, message.content, message.role, findings)
    thinking = _text(name, rule, message.thinking, message.role, findings)
    if content is message.content and thinking is message.thinking:
        return message
    return replace(message, content=content, thinking=thinking)


def _text(name: str, rule: Rule, text: str, place: Place, findings: list[Finding]) -> str:
    """The text as the rule leaves it; raises _Filtered where the row is not to be used."""
    found = rule(text, place) if text else None
    if found is None:
        return text
    if found.mended is not None and text.strip() and not found.mended.strip():
        found = Found(f"{found.detail}; nothing else is left", found.example, drop=True)
    if found.drop:
        findings.append(Finding(name, "filtered", found.detail, found.example))
        raise _Filtered
    action: Action = "noted" if found.mended is None else "mended"
    findings.append(Finding(name, action, found.detail, found.example))
    return text if found.mended is None else found.mended
