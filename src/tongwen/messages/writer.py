"""Runs a model's chat template: messages in, the text that the model sees out.

It is transformers' own sandboxed Jinja, given what transformers gives it, so the text is that of
`apply_chat_template`. A template comes with a model from anywhere: one that does not end in time,
or writes far more than it was given, is refused. It is stopped between two steps of Python; a
single step, such as a power of huge numbers, runs to its end and takes what memory it needs.

Calls have their arguments as objects, or as texts where the template joins them to text, which is
found out once for each template, so that no row has a say in how another is written. Call ids
are counted, as nine digits. A thought is given as `reasoning_content`. A template that does not
know thoughts gets one behind the last question as `<think>\\n…\\n</think>\\n\\n` before the
words, and earlier ones are left out, as Qwen 3 does; a template that takes thoughts out of
contents, such as DeepSeek R1's, gets none.
"""

from __future__ import annotations

import ctypes
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from tongwen.errors import DataError, ModelError, TongwenError
from tongwen.messages.conversation import Message, ToolCall
from tongwen.messages.own import last_question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PATIENCE: Final = 10.0
"""Seconds after which a template is stopped, besides those that many conversations need."""
SECONDS_EACH: Final = 0.1
LARGEST: Final = 1_000_000
"""Characters that a template may add to what it is given."""
CALLED: Final = Message("assistant", "", calls=(ToolCall("f", '{"a": "b"}'),))
CALLS: Final = (
    (Message("user", "x"), CALLED),
    (Message("user", "x"), CALLED, Message("tool", "y"), Message("assistant", "z")),
)
"""Conversations that show how a template wants the arguments of calls."""
TOOL: Final = '{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}'
SURROGATE: Final = re.compile("[\ud800-\udfff]")
READS_THOUGHTS: Final = re.compile(r"reasoning_content|\.thinking\b|['\"]thinking['\"]")


class Writer:
    """The chat template of one tokenizer; holds no reference to it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.source = tokenizer.chat_template
        self.tokens: Mapping[str, Any] = dict(tokenizer.special_tokens_map)
        self._plain = _template(tokenizer, None)
        self._with_tools = _template(tokenizer, [{}])
        self.tells_time = "strftime_now" in self._plain + self._with_tools
        """Whether what it writes depends on when it is asked."""

    def current(self, tokenizer: PreTrainedTokenizerFast) -> bool:
        """Whether the tokenizer's template is still this one."""
        return (
            self.source == tokenizer.chat_template and self.tokens == tokenizer.special_tokens_map
        )

    def write(
        self, messages: Sequence[Message], tools: Sequence[str] = (), *, generation: bool = False
    ) -> str:
        """The text of a conversation, and with `generation` the head of the answer to it.

        A conversation that the template refuses is a DataError, a broken template a ModelError.
        """
        return self._write(self.records(messages, tools), tools, generation=generation)

    def records(self, messages: Sequence[Message], tools: Sequence[str] = ()) -> list[Any]:
        """The messages as the template gets them."""
        return self._records(messages, tools, text_arguments=self._text_arguments(messages, tools))

    def _records(
        self, messages: Sequence[Message], tools: Sequence[str], *, text_arguments: bool
    ) -> list[Any]:
        source = self._with_tools if tools else self._plain
        if not READS_THOUGHTS.search(source):
            inline = "</think>" not in source
            messages = _without_thoughts(messages, inline=inline)
        return _records(messages, text_arguments=text_arguments)

    def _text_arguments(self, messages: Sequence[Message], tools: Sequence[str]) -> bool:
        """Whether the arguments of these messages' calls are given as texts."""
        called = any(message.calls for message in messages)
        return called and (self._texts_with_tools if tools else self._texts_alone)

    @cached_property
    def _texts_with_tools(self) -> bool:
        return self._wants_texts([TOOL])

    @cached_property
    def _texts_alone(self) -> bool:
        return self._wants_texts([])

    def _wants_texts(self, tools: Sequence[str]) -> bool:
        """Whether the template writes calls only where their arguments are texts."""
        for messages in CALLS:
            for text_arguments in (False, True):
                records = self._records(messages, tools, text_arguments=text_arguments)
                try:
                    self._write(records, tools)
                except TongwenError:
                    continue
                return text_arguments
        return False

    def _write(self, records: list[Any], tools: Sequence[str], *, generation: bool = False) -> str:
        import jinja2
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                [records],
                tools=[json.loads(tool) for tool in tools] or None,
                chat_template=self._with_tools if tools else self._plain,
                add_generation_prompt=generation,
                **self.tokens,
            )
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template cannot be read: line {error.lineno}: {error.message}",
                hint="mend it, or choose one by name with --template",
            ) from None
        except Exception as error:  # a template may raise whatever Python can
            raise DataError(
                f"the chat template refuses the conversation: {_in_words(error)}",
                hint="change the row to what the model's template allows, or choose a --template",
            ) from None
        text: str = rendered[0][0]
        if SURROGATE.search(text):
            raise DataError(
                "the chat template writes half a surrogate pair, which has no UTF-8 form",
                hint="mend the template, or choose one by name with --template",
            )
        given = sum(len(r["content"]) + len(r.get("reasoning_content", "")) for r in records)
        given += sum(map(len, tools))
        if len(text) > 4 * given + LARGEST:
            raise ModelError(
                f"the chat template writes {len(text):,} characters around {given:,}",
                hint="the template is broken or hostile; choose one by name with --template",
            )
        return text


@contextmanager
def in_time(conversations: int = 1) -> Iterator[None]:
    """Stop what a template does in this block when it takes too long: a ModelError."""
    thread, lock, over = threading.get_ident(), threading.Lock(), False
    seconds = PATIENCE + SECONDS_EACH * conversations

    def stop() -> None:
        with lock:
            if not over:
                late = ctypes.py_object(_Late)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), late)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except _Late:
        raise ModelError(
            f"the chat template did not end in {seconds:g} seconds",
            hint="the template is broken or hostile; choose one by name with --template",
        ) from None
    finally:
        with lock:
            over = True
        timer.cancel()


class _Late(BaseException):
    """Raised in the thread that waits for a template; no Exception, so that nothing holds it up."""


def _in_words(error: Exception) -> str:
    """What an error says, on one line."""
    import jinja2

    said = " ".join(str(error).split())
    return said if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {said}"


def _template(tokenizer: PreTrainedTokenizerFast, tools: list[dict[str, Any]] | None) -> str:
    try:
        template = tokenizer.get_chat_template(None, tools)
    except ValueError:
        raise ModelError(
            "the tokenizer has no chat template",
            hint="choose one by name with --template, or take a chat model",
        ) from None
    assert isinstance(template, str), "a template is text"
    return template


def _without_thoughts(messages: Sequence[Message], *, inline: bool) -> list[Message]:
    """The messages with the thoughts behind the last question in their contents, or with none."""
    question = last_question(messages)
    return [
        replace(
            message,
            thinking="",
            content=f"<think>\n{message.thinking}\n</think>\n\n{message.content}"
            if inline and message.thinking and place > question
            else message.content,
        )
        for place, message in enumerate(messages)
    ]


def _records(messages: Sequence[Message], *, text_arguments: bool) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []
    count = 0
    for message in messages:
        record: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.thinking:
            record["reasoning_content"] = message.thinking
        if message.role == "tool" and waiting:
            record["tool_call_id"], record["name"] = waiting.pop(0)
        if message.calls:
            waiting = []
            record["tool_calls"] = []
        for call in message.calls:
            number = f"{count:09d}"
            count += 1
            waiting.append((number, call.name))
            arguments = call.arguments if text_arguments else json.loads(call.arguments)
            function = {"name": call.name, "arguments": arguments}
            record["tool_calls"].append({"type": "function", "id": number, "function": function})
        records.append(record)
    return records
