"""The template language: each row of OpenAI's tables, and everything a template can meet, fuzzed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grading import CHECK, grade
from hypothesis import given
from hypothesis import strategies as st

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.template import Template, sample_of, scope_of
from pinetune.records import Completion, Row

CALLS = (
    {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": '{"gene": "TSC2"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "stop", "arguments": "{}"}},
)
ITEM = {
    "answer": "TSC2",
    "n": 3,
    "half": 0.5,
    "yes": True,
    "none": None,
    "list": ["a", {"b": [1, "zwei"]}],
    "messages": [{"role": "user", "content": "Which gene?"}],
    "ключ": "v",
}
ANSWER = '{"genes": ["TSC2", "TSC1"], "sure": true}'


def render(text: str, answer: str = ANSWER, json_answers: bool = True, calls: tuple[Any, ...] = CALLS) -> str:
    completion = Completion((), (), (), "stop", answer, reasoning="SECRET THOUGHT", tool_calls=calls)
    return Template.parse(text, "grader.input").render(scope_of(completion, Row(0, (), ITEM), json_answers=json_answers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # form: spaces are optional, two namespaces
        ("{{item.answer}}", "TSC2"),
        ("{{  item.answer\n}}", "TSC2"),
        ("is {{ item.answer }} = {{ sample.output_json.genes[0] }}?", "is TSC2 = TSC2?"),
        # path: dots and indices
        ("{{ item.list[1].b[1] }}", "zwei"),
        ("{{ sample.output_tools[0].function.arguments }}", '{"gene": "TSC2"}'),
        ("{{ sample.output_tools[1].function.name }}", "stop"),
        ("{{ sample.choices[0].message.tool_calls[0].function.name }}", "lookup"),
        ("{{ item['answer'] }}{{ item[\"n\"] }}", "TSC23"),
        ("{{ item.ключ }}", "v"),
        # values that are no string
        ("{{ item.n }} {{ item.half }} {{ item.yes }} {{ item.none }}", "3 0.5 true null"),
        ("{{ item.list }}", '["a", {"b": [1, "zwei"]}]'),
        ("{{ item.messages }}", '[{"role": "user", "content": "Which gene?"}]'),
        ("{{ sample.output_json }}", ANSWER),
        ("{{ sample.output_json.sure }}", "true"),
        # sample keys
        ("{{ sample.output_text }}", ANSWER),
        ("{{ sample.choices[0].message.content }}", ANSWER),
        ("{{ sample.choices[0].message.role }}", "assistant"),
        ("{{ sample.choices[0].finish_reason }}", "tool_calls"),
        # what is no template
        ("{item.answer} { {item.answer} }", "{item.answer} { {item.answer} }"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ("{{ item.answer", "{{ item.answer"),
        ("item.answer }}", "item.answer }}"),
    ],
)
def test_renders(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ item.absent }}",
        "{{ item.list[2] }}",
        "{{ item.answer.x }}",
        "{{ item.answer[0] }}",
        "{{ item.none.x }}",
        "{{ sample.absent }}",
        "{{ sample.output_json.absent }}",
        "{{ sample.output_tools[2] }}",
        "{{ sample.output_audio }}",
        "{{ sample.output_audio.transcript }}",
        "{{ sample.reasoning }}",
    ],
)
def test_what_is_missing_is_an_invalid_variable_and_no_grade(text: str) -> None:
    verdict = grade({**CHECK, "input": text}, ANSWER, ITEM, json_answers=True, tool_calls=CALLS)
    assert (verdict.status, verdict.error_kind) == ("error", "invalid_variable_error")
    assert verdict.explanation.startswith(text)


def test_output_json_is_there_only_with_a_response_format_and_for_json() -> None:
    text = "{{ sample.output_json.genes[0] }}"
    assert render(text) == "TSC2"
    why = r"no sample\.output_json: the answer is no JSON, or the job has no response_format"
    for answer, json_answers in ((ANSWER, False), ("TSC2", True), ("{'genes': []}", True), ('{"a": NaN}', True), ("", True)):
        with pytest.raises(GradingFailed, match=why):
            render(text, answer, json_answers)


NEVER = ["{{ answer }}", "{{ items.x }}", "{{ row.x }}", "{{ }}", "{{ item.x | upper }}", "{{ item.x + 1 }}", "{{ item.x() }}"]
NEVER += ["{{ if item.x }}", "{{ for x in item }}", "{{ item..x }}", "{{ item.x[ }}", "{{ item.x[-1] }}", "{{ item x }}"]


@pytest.mark.parametrize("text", NEVER)
def test_no_other_namespaces_filters_loops_or_conditions(text: str) -> None:
    with pytest.raises(GraderError, match=r"^grader\.input: \{\{"):
        render(text)


def test_odd_keys_are_written_in_quotes() -> None:
    scope = {"item": {"a|b": 1, "km/h": 2, "two words": 3}, "sample": {}}
    assert Template.parse('{{ item["a|b"] }} {{ item.km/h }} {{ item.two words }}', "t").render(scope) == "1 2 3"


def test_the_sample_has_the_five_keys() -> None:
    completion = Completion((), (), (), "stop", "TSC2", reasoning="SECRET THOUGHT")
    assert sample_of(completion, json_answers=True) == {
        "output_text": "TSC2",
        "output_json": None,
        "output_tools": [],
        "output_audio": None,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "TSC2", "tool_calls": []}, "finish_reason": "stop"}],
    }
    with_calls = sample_of(Completion((), (), (), "stop", "", tool_calls=CALLS), json_answers=False)
    assert with_calls["output_tools"] == list(CALLS) == with_calls["choices"][0]["message"]["tool_calls"]
    cut = sample_of(Completion((), (), (), "length", "TS"), json_answers=False)
    assert cut["choices"][0]["finish_reason"] == "length"


def test_the_chain_of_thought_is_nowhere() -> None:
    assert "SECRET" not in render("{{ sample }}{{ item }}")


def test_the_whole_item_and_the_whole_sample() -> None:
    assert json.loads(render("{{ item }}")) == ITEM
    assert json.loads(render("{{ sample }}", "a", False, ())) == sample_of(Completion((), (), (), "stop", "a"), json_answers=False)


def test_values_are_never_read_as_templates() -> None:
    assert render("{{ sample.output_text }}", "{{ item.answer }}") == "{{ item.answer }}"


@pytest.mark.parametrize(
    "text",
    [
        "{{" + " " * 100_000,
        "{{" * 100_000,
        "{{ item." + " " * 100_000 + "}}",
        "{{ item" + ".a" * 20_000 + " ..}}",
        "{{ item[" + " " * 100_000 + "}}",
        "{{ item[" + "9" * 100_000 + "] }}",
        "{{ item[" + "9" * 5_000 + "] }}",
        "{{ item.list[999999999] }}",
        "{{ item" + "[0]" * 50_000 + " }}",
        "{" * 300_000 + "}" * 300_000,
        "{{ item.answer }}" * 20_000,
    ],
)
def test_hostile_templates_end(text: str) -> None:
    try:
        assert render(text).count("TSC2") in (0, 20_000)
    except (GraderError, GradingFailed) as error:
        assert len(str(error)) < 400


PIECES = ["{{", "}}", "{", "}", " ", ".", "[", "]", "0", "99", '"', "'", "item", "sample", "answer", "output_json", "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_any_template_renders_or_is_refused(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        rendered = render(text)
    except (GraderError, GradingFailed):
        return
    assert isinstance(rendered, str)
    assert "{{" in text or rendered == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.text(max_size=30))
def test_any_value_and_any_answer_can_be_rendered(value: Any, answer: str) -> None:
    completion = Completion((), (), (), "stop", answer)
    scope = scope_of(completion, Row(0, (), {"x": value}), json_answers=True)
    rendered = Template.parse("{{ item.x }}", "t").render(scope)
    assert rendered == (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    assert Template.parse("{{ sample.output_text }}", "t").render(scope) == answer
    assert isinstance(Template.parse("{{ sample }}{{ item }}", "t").render(scope), str)


def test_values_nested_too_deeply_are_no_grade() -> None:
    deep: Any = []
    for _ in range(20_000):
        deep = [deep]
    verdict = grade({**CHECK, "input": "{{ item.deep }}"}, "x", {"deep": deep, "answer": ""})
    assert (verdict.status, verdict.error_kind) == ("error", "invalid_variable_error")
    assert verdict.explanation == "the value is nested too deeply to be written as text"
    while deep:  # taken apart by hand: letting go of it at once would recurse as deeply
        deep = deep[0]
