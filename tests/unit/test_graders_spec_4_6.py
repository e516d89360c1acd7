"""`POST /fine_tuning/alpha/graders/run`: each field of the reply, each error flag, and what may be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grading import CHECK, USAGE, SayingJudge
from hypothesis import given
from hypothesis import strategies as st

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.ask import AskReply, AskRequest
from pinetune.graders.build import build_grader
from pinetune.graders.options import Services
from pinetune.graders.verdict import PUBLISHED, run_grader, verdict
from pinetune.records import Grade
from pinetune.wire.grader_run import GraderErrors

FLAGS = [
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
]
DETAILS = ["python_grader_server_error_type", "python_grader_runtime_error_details", "model_grader_server_error_details"]
JUDGE = {"type": "score_model", "name": "judge", "model": "gpt-4o", "input": [{"role": "user", "content": "{{ sample.output_text }}"}]}
COUNTED = {"prompt_tokens": 10, "total_tokens": 15, "completion_tokens": 5, "cached_tokens": 4}


def run(grader: Any, sample: Any = "TSC2", item: Any = None, **more: Any) -> dict[str, Any]:
    options = {key: more.pop(key) for key in ("services", "trusted", "limits") if key in more}
    request = {"grader": grader, "model_sample": sample, **({"item": item} if item is not None else {}), **more}
    return run_grader(request, **options)


def raised(response: dict[str, Any]) -> list[str]:
    return [name for name, value in response["metadata"]["errors"].items() if value is True]


def test_every_field_of_a_reply() -> None:
    response = run({**CHECK, "name": "exact"}, item={"answer": "TSC2"})
    seconds = response["metadata"].pop("execution_time")
    assert 0 < seconds < 10
    assert response.pop("reward") == 1.0
    errors = response["metadata"].pop("errors")
    assert list(errors)[:14] == [
        "formula_parse_error",
        "sample_parse_error",
        "truncated_observation_error",
        "unresponsive_reward_error",
        "invalid_variable_error",
        "other_error",
        "python_grader_server_error",
        "python_grader_server_error_type",
        "python_grader_runtime_error",
        "python_grader_runtime_error_details",
        "model_grader_server_error",
        "model_grader_refusal_error",
        "model_grader_parse_error",
        "model_grader_server_error_details",
    ]
    assert {errors[name] for name in FLAGS} == {False}
    assert {errors[name] for name in DETAILS} == {None}
    assert not any(errors.values())
    assert response == {
        "metadata": {"name": "exact", "type": "string_check", "scores": {}, "token_usage": None, "sampled_model_name": None},
        "sub_rewards": {},
        "model_grader_token_usage_per_model": {},
    }


def test_the_published_flags_are_eleven() -> None:
    assert sorted(FLAGS) == sorted(PUBLISHED)
    assert sorted(FLAGS + DETAILS) == sorted(list(GraderErrors.model_fields)[:14])


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_is_set_alone_and_the_reward_is_zero(flag: str) -> None:
    response = verdict(Grade("error", 0.0, "why\nin detail", flag), name="g", kind="python").model_dump()
    assert raised(response) == [flag]
    assert response["reward"] == 0.0
    texts = {name: value for name, value in response["metadata"]["errors"].items() if isinstance(value, str)}
    expected = {f"{flag}_details": "why\nin detail"} if f"{flag}_details" in GraderErrors.model_fields else {}
    assert texts == (expected if flag != "python_grader_server_error" else {"python_grader_server_error_type": "why"})


@pytest.mark.parametrize("kind", ["endpoint_grader_server_error", "endpoint_grader_internal_error"])
def test_later_flags_also_set_other_error(kind: str) -> None:
    response = verdict(Grade("error", 0.0, "why", kind), name="g", kind="endpoint").model_dump()
    assert raised(response) == ["other_error", kind]
    assert response["metadata"]["errors"][f"{kind}_details"] == "why"


def test_a_kind_nobody_knows_is_an_other_error() -> None:
    assert raised(verdict(Grade("error", 0.0, "why", "surprise"), name="g", kind="python").model_dump()) == ["other_error"]


def test_a_python_failure_is_a_flag_with_its_traceback() -> None:
    response = run({"type": "python", "source": "def grade(sample, item):\n    return item['absent']\n"}, trusted=True)
    assert (response["reward"], raised(response)) == (0.0, ["python_grader_runtime_error"])
    details = response["metadata"]["errors"]["python_grader_runtime_error_details"]
    assert details.startswith("Traceback (most recent call last):")
    assert details.endswith("KeyError: 'absent'")


def test_a_missing_variable_and_a_division_by_zero() -> None:
    assert raised(run(CHECK)) == ["invalid_variable_error"]
    response = run({"type": "multi", "graders": {"a": CHECK}, "calculate_output": "1 / a"}, item={"answer": "other"})
    assert (response["reward"], raised(response)) == (0.0, ["formula_parse_error"])
    assert response["sub_rewards"] == response["metadata"]["scores"] == {"a": 0.0}


def test_a_multi_shows_its_parts() -> None:
    python = {"type": "python", "source": "def grade(sample, item): return 0.5"}
    definition = {"type": "multi", "graders": {"same": CHECK, "p": python}, "calculate_output": "0.5 * same + p"}
    response = run(definition, item={"answer": "TSC2"}, trusted=True)
    assert (response["reward"], response["metadata"]["name"], response["metadata"]["type"]) == (1.0, "multi", "multi")
    assert response["sub_rewards"] == response["metadata"]["scores"] == {"same": 1.0, "p": 0.5}


def test_a_judge_shows_its_tokens_and_its_name() -> None:
    response = run(JUDGE, services=Services(ask=SayingJudge(0.25)))
    assert response["reward"] == 0.25
    assert response["metadata"]["token_usage"] == COUNTED
    assert response["metadata"]["sampled_model_name"] == "gpt-4o"
    assert response["model_grader_token_usage_per_model"] == {"gpt-4o": COUNTED}


def test_the_tokens_of_two_judges_are_summed_also_when_the_second_fails() -> None:
    definition = {"type": "multi", "graders": {"a": JUDGE, "b": {**JUDGE, "model": "gpt-4.1"}, "c": JUDGE}, "calculate_output": "a + b + c"}

    def ask(request: AskRequest) -> AskReply:
        text = "no verdict" if request.model == "gpt-4.1" and broken else '{"steps": [], "result": 1}'
        return AskReply(text, request.model, USAGE)

    broken = False
    response = run(definition, services=Services(ask=ask))
    assert response["reward"] == 3.0
    assert response["model_grader_token_usage_per_model"]["gpt-4o"] == {name: 2 * count for name, count in COUNTED.items()}
    assert response["metadata"]["token_usage"] == {name: 3 * count for name, count in COUNTED.items()}
    broken = True
    response = run(definition, services=Services(ask=ask))
    assert (response["reward"], raised(response)) == (0.0, ["model_grader_parse_error"])
    assert response["metadata"]["token_usage"] == {name: 2 * count for name, count in COUNTED.items()}


@pytest.mark.parametrize("kind", ["model_grader_server_error", "model_grader_refusal_error"])
def test_a_judge_that_is_away_or_refuses(kind: str) -> None:
    def ask(request: AskRequest) -> AskReply:
        raise GradingFailed(kind, "the judge answered 503")

    response = run(JUDGE, services=Services(ask=ask))
    assert (response["reward"], raised(response)) == (0.0, [kind])
    assert response["metadata"]["errors"][f"{kind}_details"] == "the judge answered 503"


@pytest.mark.parametrize(
    ("answer", "reference"), [("TSC2", "TSC2"), (["TSC2", "TSC1"], '["TSC2", "TSC1"]'), (3, "3"), ({"gene": "TSC2"}, '{"gene": "TSC2"}')]
)
def test_the_reference_answer_of_the_first_sdk(answer: Any, reference: str) -> None:
    definition = {**CHECK, "reference": "{{ item.reference_answer }}"}
    assert run(definition, reference, reference_answer=answer)["reward"] == 1.0
    assert run(definition, "x", {"reference_answer": "x"}, reference_answer=answer)["reward"] == 1.0  # the item's own wins
    assert raised(run(definition, "x")) == ["invalid_variable_error"]


def test_a_sample_that_is_json_has_output_json() -> None:
    definition = {**CHECK, "input": "{{ sample.output_json.genes[0] }}"}
    assert run(definition, '{"genes": ["TSC2"]}', {"answer": "TSC2"})["reward"] == 1.0
    assert raised(run(definition, "TSC2", {"answer": "TSC2"})) == ["invalid_variable_error"]


def test_a_message_with_tool_calls_can_be_tried_too() -> None:
    """More than the hosted API, where a sample is a text and graders of tool calls could not be tried."""
    call = {"id": "c", "type": "function", "function": {"name": "lookup", "arguments": '{"gene": "TSC2"}'}}
    definition = {**CHECK, "input": "{{ sample.output_tools[0].function.arguments }}"}
    assert run(definition, {"role": "assistant", "content": None, "tool_calls": [call]}, {"answer": '{"gene": "TSC2"}'})["reward"] == 1.0


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"model_sample": "x"}, "grader: is missing; add it"),
        ({"grader": CHECK}, "model_sample: is missing; add it"),
        ({"grader": CHECK, "model_sample": 3}, "model_sample: should be a valid string, not 3"),
        ({"grader": CHECK, "model_sample": {"contnt": "x"}}, "model_sample.contnt: unknown parameter 'contnt'; did you mean 'content'?"),
        ({"grader": CHECK, "model_sample": "x", "items": {}}, "items: unknown parameter 'items'; did you mean 'item'?"),
        ({"grader": CHECK, "model_sample": "x", "item": []}, "item: should be a valid dictionary, not []"),
        ({"grader": [], "model_sample": "x"}, "grader: should be a valid dictionary, not []"),
        ({"grader": {**CHECK, "operation": "is"}, "model_sample": "x"}, "grader.operation: must be 'eq', 'ne', 'neq', 'like' or 'ilike'"),
    ],
)
def test_bad_requests_are_refused(request_: dict[str, Any], said: str) -> None:
    with pytest.raises(GraderError) as error:
        run_grader(request_)
    assert str(error.value).startswith(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["{{ item.x }}", "bleu", "eq", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    "type",
    "name",
    "input",
    "reference",
    "operation",
    "evaluation_metric",
    "graders",
    "calculate_output",
    "url",
    "headers",
    "rate_limit",
]
KEYS += ["model", "labels", "passing_labels", "range", "sampling_params", "pass_threshold", "source", "image_tag", "x"]
KINDS = st.sampled_from(["string_check", "text_similarity", "score_model", "label_model", "multi", "endpoint", "python", "unknown"])
LOOSE = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)
TEXTS = st.sampled_from(["", "a", "{{ item.x }}", "{{ sample.output_text }}", "{{ sample.output_json.a }}", "{{ bad", "{{ nothing }}"])
CHECKS = st.fixed_dictionaries(
    {"type": st.just("string_check"), "input": TEXTS, "reference": TEXTS, "operation": st.sampled_from(["eq", "ne", "like", "ilike"])}
)
MULTIS = st.fixed_dictionaries(
    {
        "type": st.just("multi"),
        "graders": st.dictionaries(st.sampled_from(["a", "b", "min", "a b", "é"]), CHECKS | LOOSE, max_size=3)
        | st.lists(CHECKS, max_size=3),
        "calculate_output": st.sampled_from(["a", "a + b", "1 / a", "min(a, b)", "é", "9^9^9", "", "a b"]),
    }
)


@given(LOOSE | CHECKS | MULTIS | st.tuples(KINDS, LOOSE).map(lambda parts: {**parts[1], "type": parts[0]}), st.text(max_size=8), JSON)
def test_any_definition_grades_or_is_refused(definition: dict[str, Any], answer: str, value: Any) -> None:
    if definition.get("type") == "endpoint":  # it is only built: what it would ask is not ours to call
        try:
            build_grader(definition).close()
        except GraderError:
            return
        return
    try:
        response = run_grader({"grader": definition, "model_sample": answer, "item": {"x": value}}, trusted=True)
    except GraderError as error:
        assert str(error).startswith("grader")
        return
    assert json.loads(json.dumps(response, allow_nan=False)) == response
    assert isinstance(response["reward"], float)
    assert response["reward"] == 0.0 or not raised(response)


def test_definitions_nested_deeply_are_refused_in_one_line() -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    for definition in (
        {**CHECK, "input": deep},
        {"type": "multi", "graders": {"a": {"type": deep}}, "calculate_output": "a"},
        {**CHECK, "x": deep},
    ):
        with pytest.raises(GraderError) as error:
            build_grader(definition)
        assert len(str(error.value)) < 400


def test_the_official_client_reads_the_reply() -> None:
    from openai.types.fine_tuning.alpha import GraderRunResponse

    # `construct` is what the client does with a reply: its type says token_usage is a number, live replies hold an object.
    reply = GraderRunResponse.construct(**run(JUDGE, services=Services(ask=SayingJudge(0.25))))
    assert (reply.reward, reply.metadata.name, reply.metadata.sampled_model_name) == (0.25, "judge", "gpt-4o")
    assert reply.metadata.token_usage == COUNTED
    assert reply.api_model_grader_token_usage_per_model == {"gpt-4o": COUNTED}
    errors = GraderRunResponse.model_validate(run(CHECK)).metadata.errors
    assert (errors.invalid_variable_error, errors.other_error, errors.api_model_grader_server_error) == (True, False, False)
