"""A judge's prompt: the messages of a `score_model` or `label_model`, with the answer to be judged put in.

The structure (roles, number of messages and parts) is settled when the grader is built; what is rendered later only
ever becomes text inside it. An answer that looks like a message, a template or JSON stays the text it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.template import Template
from pinetune.records import Message
from pinetune.wire.graders import InputMessage, JudgeSampling

Scope = Mapping[str, Any]
Part = Callable[[Scope], dict[str, Any]]

TEXT_BLOCKS = ("input_text", "output_text", "text")
IMAGE_PLACE = re.compile(r"(https?://|data:image/)", re.IGNORECASE)
# OpenAI's own names tell which settings they take; other models' names tell nothing, and their servers decide.
REASONING_MODEL = re.compile(r"o\d|gpt-5(?!.*chat)")
PLAIN_MODEL = re.compile(r"gpt-(3|4)|chatgpt-4o")


class JudgeInput:
    """The messages, parsed once; `render` gives them in the shape of chat completions."""

    def __init__(self, messages: Sequence[InputMessage], path: str) -> None:
        """`path` is the JSON path of `input` in the definition. Raises GraderError for a block or variable that is wrong."""
        if not messages:
            raise GraderError(f"{path}: is empty; add at least one message, such as a user message with {{{{ sample.output_text }}}}")
        self._messages = [(m.role, _parts(m.content, f"{path}[{i}].content")) for i, m in enumerate(messages)]

    def render(self, scope: Scope) -> tuple[Message, ...]:
        """Raises GradingFailed("invalid_variable_error") where the row or the answer lacks what a template names."""
        return tuple({"role": role, "content": _joined([part(scope) for part in parts])} for role, parts in self._messages)


def sampling_params(given: JudgeSampling | None, model: str, path: str) -> dict[str, Any]:
    """A definition's `sampling_params` as settings of chat completions; raises GraderError where the model has no such setting."""
    if given is None:
        return {}
    params = given.model_dump(exclude_none=True)
    if "temperature" in params and REASONING_MODEL.match(model):
        raise GraderError(f"{path}.temperature: {model} is a reasoning model and has no temperature; use reasoning_effort or leave it out")
    if "reasoning_effort" in params and PLAIN_MODEL.match(model):
        raise GraderError(f"{path}.reasoning_effort: {model} is no reasoning model; remove it")
    if "max_completions_tokens" in params:
        params["max_completion_tokens"] = params.pop("max_completions_tokens")
    return params


def _parts(content: Any, path: str) -> list[Part]:
    if not isinstance(content, list):
        return [_part(content, path)]
    if not content:
        raise GraderError(f"{path}: is empty; add a text or a content block")
    return [_part(block, f"{path}[{i}]") for i, block in enumerate(content)]


def _part(block: str | Mapping[str, Any], path: str) -> Part:
    if isinstance(block, str):
        return _text(Template.parse(block, path))
    kind = block.get("type")
    if kind in TEXT_BLOCKS:
        return _text(Template.parse(_string(block, "text", path), f"{path}.text"))
    if kind == "input_image":
        return _image(Template.parse(_string(block, "image_url", path), f"{path}.image_url"), block.get("detail"))
    if kind == "input_audio":
        return _audio(block.get("input_audio"), path)
    raise GraderError(f"{path}.type: must be input_text, output_text, input_image or input_audio, not {kind!r}")


def _string(block: Mapping[str, Any], key: str, path: str) -> str:
    if not isinstance(block.get(key), str):
        raise GraderError(f"{path}.{key}: must be a string; add it")
    return str(block[key])


def _text(template: Template) -> Part:
    # Half a surrogate pair (JSON's escapes can write one) cannot be sent as UTF-8.
    return lambda scope: {"type": "text", "text": template.render(scope).encode("utf-8", "replace").decode()}


def _image(template: Template, detail: Any) -> Part:
    more = {"detail": detail} if detail else {}

    def render(scope: Scope) -> dict[str, Any]:
        url = template.render(scope).strip()
        if not IMAGE_PLACE.match(url):  # also what the answer could not be allowed to name: a file of the judge's server
            raise GradingFailed("invalid_variable_error", f"image_url must start with http://, https:// or data:image/, not {url[:40]!r}")
        return {"type": "image_url", "image_url": {"url": url, **more}}

    return render


def _audio(audio: Any, path: str) -> Part:
    if not isinstance(audio, Mapping):
        raise GraderError(f'{path}.input_audio: must be an object such as {{"data": "{{{{ item.audio }}}}", "format": "wav"}}')
    data = Template.parse(_string(audio, "data", f"{path}.input_audio"), f"{path}.input_audio.data")
    form = _string(audio, "format", f"{path}.input_audio")
    return lambda scope: {"type": "input_audio", "input_audio": {"data": data.render(scope), "format": form}}


def _joined(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone goes as one string: many servers take no list of parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts
