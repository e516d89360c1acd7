"""How a model speaks: its chat template, the tokens that end its turn, and where its thinking ends and its answer begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from pinetune.errors import DataError, ModelError
from pinetune.records import Message, Prompt, Row

# Opening and closing tags in use by open reasoning models. The first pair the tokenizer or the template knows is taken.
THINKING_TAGS = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1, SmolLM3, GLM
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
)
PROBE = "Zebra"  # stands for the assistant's words when the template is asked how it ends a turn


class Split(NamedTuple):
    """A completion cut in two. `reasoning_tokens` counts the thinking with its tags."""

    reasoning: str
    answer: str
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class ThinkingTags:
    """Tags around the thinking: as text, and as the tokens they are written with (often one each)."""

    open: str
    close: str
    open_ids: tuple[int, ...]
    close_ids: tuple[int, ...]
    native: bool  # the model's tokenizer or template knows them; else they are only what a prompt may ask for


class ChatFormat:
    """A tokenizer with its chat template, stop tokens and thinking tags.

    `generation_eos` are the stop tokens named by the model's generation_config.
    Raises ModelError when the tokenizer has no chat template or no stop token can be found.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, generation_eos: Sequence[int] = (), source: str = "the model") -> None:
        self.tokenizer = tokenizer
        self.source = source
        if not tokenizer.chat_template:
            raise ModelError(
                f"{source} has no chat template, so messages cannot be shown to it: use an instruct (chat) model, "
                "or put a chat_template.jinja into its folder"
            )
        self._template = _template_text(tokenizer)
        self.thinking = find_thinking_tags(tokenizer, self._template)
        ids = [*generation_eos, tokenizer.eos_token_id, self._end_of_turn()]
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(int(i) for i in ids if i is not None))
        if not self.stop_ids:
            raise ModelError(f"{source} names no end-of-sequence token: set eos_token in tokenizer_config.json")

    def render(self, row: Row) -> Prompt:
        """The row's messages and tools in the chat template, with the assistant's turn opened.

        Token for token what `tokenizer.apply_chat_template(messages, tools=..., add_generation_prompt=True)` gives. Where the
        template knows no system message (Gemma), the system's words open the first user message.
        Raises DataError when the template refuses the messages.
        """
        messages = [self._plain(message, row) for message in row.messages]
        tools = [dict(tool) for tool in row.tools] or None
        try:
            ids = self._apply(messages, tools=tools)
        except Exception as error:  # templates raise whatever they like (jinja2 errors, KeyError, TypeError)
            try:
                ids = self._apply(without_system(messages), tools=tools)
            except Exception:
                raise DataError(f"{_place(row)}: the chat template of {self.source} refuses these messages: {error}") from error
        tail = self.tokenizer.decode(ids[-16:], skip_special_tokens=False)
        return Prompt(tuple(ids), thinking_open=tail.rstrip().endswith(self.thinking.open))

    def render_whole(self, row: Row) -> list[int]:
        """The row's messages and tools in the chat template to the end of the last one, with no turn opened after it.

        Raises DataError when the template refuses the messages.
        """
        messages = [self._plain(message, row) for message in row.messages]
        tools = [dict(tool) for tool in row.tools] or None
        for attempt in (messages, _merged(messages)):
            try:
                ids = self.tokenizer.apply_chat_template(attempt, tools=tools, return_dict=False)
            except Exception as error:
                refusal = error
            else:
                return [int(i) for i in ids]
        raise DataError(f"{_place(row)}: the chat template of {self.source} refuses these messages: {refusal}") from refusal

    def split(self, token_ids: Sequence[int], thinking_open: bool = False) -> Split:
        """Cut a completion into reasoning and answer, both stripped of special tokens and outer white space.

        Thinking counts only at the start of the completion, or where the prompt had opened it. If it never closes,
        everything is reasoning and the answer is "".
        """
        ids = list(token_ids)
        end = len(ids) - 1 if ids and ids[-1] in self.stop_ids else len(ids)
        if not thinking_open and not self._opens(ids[:end]):
            return Split("", self.decode(ids[:end]), 0)
        cut = self.thinking_end(ids[:end])
        if cut is None:
            return Split(self._inside(ids[:end], closed=False), "", end)
        return Split(self._inside(ids[:cut], closed=True), self._after_close(ids, cut, end), cut)

    def thinking_end(self, ids: Sequence[int]) -> int | None:
        """Number of tokens up to and including the closing tag; None if it is not there."""
        close = self.thinking.close_ids
        if len(close) == 1:
            return next((i + 1 for i, token in enumerate(ids) if token == close[0]), None)
        if self.thinking.close not in self._raw(ids):
            return None
        low, high = 1, len(ids)  # the shortest prefix whose text holds the tag: it may be tokenized in many ways
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.thinking.close in self._raw(ids[:middle]) else (middle + 1, high)
        return low

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text without special tokens and outer white space."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).strip()

    def _raw(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _opens(self, ids: Sequence[int]) -> bool:
        return self._raw(ids[:16]).lstrip().startswith(self.thinking.open)

    def _inside(self, ids: Sequence[int], *, closed: bool) -> str:
        # Tags may be special tokens (Magistral), so they are cut from the raw text and not left to skip_special_tokens.
        text = self._raw(ids).strip()
        text = text.removeprefix(self.thinking.open)
        return (text.rsplit(self.thinking.close, 1)[0] if closed else text).strip()

    def _after_close(self, ids: Sequence[int], cut: int, end: int) -> str:
        # The last token of a multi-token tag can carry the answer's first characters (">{").
        glued = "" if len(self.thinking.close_ids) == 1 else self._raw(ids[:cut]).split(self.thinking.close, 1)[1]
        rest = self.tokenizer.decode(list(ids[cut:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return (glued + str(rest)).strip()

    def _apply(self, messages: list[dict[str, Any]], **kwargs: Any) -> list[int]:
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **kwargs)
        return [int(i) for i in ids]

    def _plain(self, message: Message, row: Row) -> dict[str, Any]:
        """One message as templates expect it: text content, and a role they know."""
        plain = dict(message)
        if plain.get("role") == "developer" and "developer" not in self._template:
            plain["role"] = "system"  # OpenAI's newer name; most templates skip unknown roles without a word
        content = plain.get("content")
        if isinstance(content, list | tuple):
            if any(part.get("type") not in ("text", "input_text") for part in content):
                raise DataError(f"{_place(row)}: messages[].content has a part that is not text; only text is supported")
            plain["content"] = "".join(str(part["text"]) for part in content)
        return plain

    def _end_of_turn(self) -> int | None:
        """The special token the template writes after an assistant's words (`<|im_end|>`, `<|eot_id|>`, `<end_of_turn>`)."""
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": PROBE}]
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception:  # a template may refuse the probe; eos tokens remain
            return None
        _, found, tail = str(text).rpartition(PROBE)
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        ids = self.tokenizer.encode(tail, add_special_tokens=False) if found else []
        return next((int(i) for i in ids if i in special), None)


def without_system(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chat with its opening system messages in front of the first user message's text; ValueError where there are none."""
    first = next((i for i, message in enumerate(messages) if message.get("role") != "system"), 0)
    if not first or messages[first].get("role") != "user":
        raise ValueError("no system message followed by a user message")
    words = [str(message.get("content") or "") for message in messages[: first + 1]]
    return [{**messages[first], "content": "\n\n".join(words)}, *messages[first + 1 :]]


def _merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As `without_system`, and the same messages where that is not possible."""
    try:
        return without_system(messages)
    except ValueError:
        return messages


def find_thinking_tags(tokenizer: PreTrainedTokenizerBase, template: str) -> ThinkingTags:
    """The tags this model thinks in; `<think>` with native=False if it shows no sign of thinking."""
    vocabulary = tokenizer.get_vocab()
    native = (pair for pair in THINKING_TAGS if all(tag in vocabulary for tag in pair) or all(tag in template for tag in pair))
    pair = next(native, None)
    opening, closing = pair or THINKING_TAGS[0]

    def ids(tag: str) -> tuple[int, ...]:
        return (vocabulary[tag],) if tag in vocabulary else tuple(tokenizer.encode(tag, add_special_tokens=False))

    return ThinkingTags(opening, closing, ids(opening), ids(closing), native=pair is not None)


def _template_text(tokenizer: PreTrainedTokenizerBase) -> str:
    template = tokenizer.chat_template
    return template if isinstance(template, str) else " ".join(template.values())  # several named templates


def _place(row: Row) -> str:
    return f"line {row.line}" if row.line else f"row {row.index}"
