"""OpenAI's template language and the sample a grader sees."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.template import Template, sample_of
from pinetune.records import Completion

SCOPE: dict[str, Any] = {
    "item": {
        "a": "x",
        "n": 3,
        "f": 0.5,
        "yes": True,
        "none": None,
        "list": ["p", {"q": [1, 2]}],
        "key with space": "s",
        "odd.key": "o",
        "": "e",
    },
    "sample": {
        "output_text": "TSC2",
        "output_json": {"genes": ["TSC2", "TSC1"]},
        "output_audio": None,
        "output_tools": [{"function": {"name": "call", "arguments": '{"x": 1}'}}],
    },
}


def render(text: str) -> str:
    return Template.parse(text, "grader.input").render(SCOPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{ item.a }}", "x"),
        ("{{item.a}}{{   sample.output_text   }}", "xTSC2"),
        ("<{{ item.n }}|{{ item.f }}|{{ item.yes }}|{{ item.none }}>", "<3|0.5|true|null>"),
        ("{{ item.list }}", '["p", {"q": [1, 2]}]'),
        ("{{ item.list[0] }} {{ item.list[1].q[1] }}", "p 2"),
        ("{{ item['key with space'] }} {{ item.key with space }}", "s s"),
        ('{{ item["odd.key"] }}{{ item[""] }}', "oe"),
        ("{{ sample.output_json.genes[0] }}", "TSC2"),
        ("{{ sample.output_tools[0].function.arguments }}", '{"x": 1}'),
        ('answer with {"result": 1, "steps": [{"a": {}}]}', 'answer with {"result": 1, "steps": [{"a": {}}]}'),
        ("{ item.a } {item.a}", "{ item.a } {item.a}"),
        ("{{ item.a", "{{ item.a"),
    ],
)
def test_renders(text: str, expected: str) -> None:
    assert render(text) == expected


def test_a_value_that_looks_like_a_template_is_not_rendered_again() -> None:
    scope = {"item": {"a": "{{ item.b }}", "b": "secret"}, "sample": {}}
    assert Template.parse("{{ item.a }}", "grader.input").render(scope) == "{{ item.b }}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ item.b }}", "no field 'b'; there are: , a, f, key with space, list, n, none, odd.key, yes"),
        ("{{ item.list[2] }}", "no entry [2]: it has 2 entries"),
        ("{{ item.a[0] }}", "no entry [0]: it is a str, not a list"),
        ("{{ item.a.b }}", "no field 'b': the value there is a str"),
        ("{{ item.none.b }}", "no field 'b': the value there is null"),
        ("{{ sample.output_audio.transcript }}", "this answer has no sample.output_audio"),
    ],
)
def test_a_missing_variable_is_a_failed_grading(text: str, said: str) -> None:
    with pytest.raises(GradingFailed) as failure:
        render(text)
    assert failure.value.kind == "invalid_variable_error"
    assert said in str(failure.value)


@pytest.mark.parametrize(
    "text",
    ["{{ answer }}", "{{ }}", "{{ items.a }}", "{{ item..a }}", "{{ item.a[ }}", "{{ item.a[-1] }}", "{{ item.a[x] }}", "{{ item a }}"],
)
def test_a_variable_that_can_never_exist_is_refused(text: str) -> None:
    with pytest.raises(GraderError, match=r"^grader\.input: \{\{"):
        Template.parse(text, "grader.input")


@given(st.text(alphabet="{}[]. \"'itemsaplx019\n", max_size=60))
def test_any_text_renders_or_is_refused(text: str) -> None:
    with contextlib.suppress(GraderError, GradingFailed):
        rendered = render(text)
        assert isinstance(rendered, str)
        assert "{{" in text or rendered == text  # without a template it is the text itself


def completion(answer: str) -> Completion:
    return Completion((1, 2), (-0.1, -0.2), (False, False), "stop", answer, reasoning="SECRET THOUGHT", reasoning_tokens=1)


def test_sample_holds_the_answer_and_never_the_thinking() -> None:
    sample = sample_of(completion('{"genes": ["A"]}'), json_answers=True)
    assert sample == {
        "output_text": '{"genes": ["A"]}',
        "output_json": {"genes": ["A"]},
        "output_tools": [],
        "output_audio": None,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": '{"genes": ["A"]}', "tool_calls": []}, "finish_reason": "stop"}
        ],
    }
    assert "SECRET" not in json.dumps(sample)


@pytest.mark.parametrize(
    ("answer", "json_answers", "expected"), [("[1]", False, None), ("[1]", True, [1]), ("no json", True, None), ("[" * 100_000, True, None)]
)
def test_output_json_only_for_json_answers(answer: str, json_answers: bool, expected: Any) -> None:
    assert sample_of(completion(answer), json_answers=json_answers)["output_json"] == expected
