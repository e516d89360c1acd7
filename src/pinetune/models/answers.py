"""An assistant's message as tokens to learn: what the template writes before it, and the message with the token that ends it."""

from __future__ import annotations

from dataclasses import replace

from pinetune.data.examples import is_trained
from pinetune.errors import DataError
from pinetune.models.chat import ChatFormat
from pinetune.records import Message, Row

Answer = tuple[list[int], list[int]]  # prompt tokens, answer tokens (the last one ends the turn)


def answer_tokens(chat: ChatFormat, row: Row, answer: Message) -> Answer:
    """`answer` as the model would have sampled it after `row`.

    Taken from the template's own text of the whole conversation where that begins with the prompt; else (templates that open
    the thinking for the model) the answer's words follow the prompt directly. Raises DataError naming the line.
    """
    prompt = chat.render(row)
    before = list(prompt.token_ids)
    said = {name: value for name, value in answer.items() if name != "weight"} | {"role": "assistant"}
    whole = chat.render_whole(replace(row, messages=(*row.messages, said)))
    if whole[: len(before)] == before:
        answered = whole[len(before) :]
        end = next((i + 1 for i, token in enumerate(answered) if token in chat.stop_ids), None)
        return before, answered[:end] if end else [*answered, chat.stop_ids[-1]]
    content = answer.get("content")
    if not isinstance(content, str):
        raise DataError(f"line {row.line}: the chat template of {chat.source} cannot show this answer (tool calls); leave the row out")
    words = f"\n{chat.thinking.close}\n\n{content}" if prompt.thinking_open else content
    return before, [*chat.tokenizer.encode(words, add_special_tokens=False), chat.stop_ids[-1]]


def trained_answers(chat: ChatFormat, dialogue: Row) -> list[Answer]:
    """One for each assistant message that is trained, after all messages before it. See `answer_tokens`."""
    return [
        answer_tokens(chat, replace(dialogue, messages=_plain(dialogue.messages[:i])), message)
        for i, message in enumerate(dialogue.messages)
        if is_trained(message)
    ]


def _plain(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple({name: value for name, value in message.items() if name != "weight"} for message in messages)
