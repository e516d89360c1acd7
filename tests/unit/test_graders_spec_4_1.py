"""The grader types of OpenAI's surface, each row of the table: what it takes, what it gives."""

from __future__ import annotations

from typing import Any

import pytest
from grading import CHECK, SayingJudge, grade

from pinetune.errors import GraderError
from pinetune.graders.build import BUILDERS, build_grader
from pinetune.graders.options import Services
from pinetune.wire.graders import DEFINITIONS

TYPES = ("string_check", "text_similarity", "score_model", "label_model", "python", "multi", "endpoint")
SIMILARITY = {"type": "text_similarity", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}
JUDGE = {"type": "score_model", "model": "gpt-4.1-mini-2025-04-14", "input": [{"role": "user", "content": "Rate {{ sample.output_text }}"}]}
LABELS = {**JUDGE, "type": "label_model", "labels": ["good", "fair", "bad"], "passing_labels": ["good", "fair"]}
PYTHON = {"type": "python", "source": "def grade(sample, item):\n    return -2.5\n"}
MULTI = {"type": "multi", "graders": {"a": CHECK}, "calculate_output": "a"}
ENDPOINT = {"type": "endpoint", "url": "http://127.0.0.1:9/score"}


def judged(definition: dict[str, Any], result: Any) -> Any:
    return grade(definition, "TSC2", services=Services(ask=SayingJudge(result)))


def test_all_seven_types_are_known_and_built() -> None:
    assert tuple(DEFINITIONS) == TYPES
    assert set(BUILDERS) == set(TYPES)


@pytest.mark.parametrize(
    ("definition", "required"),
    [
        (CHECK, ["input", "reference", "operation"]),
        ({**SIMILARITY, "evaluation_metric": "bleu"}, ["input", "reference", "evaluation_metric"]),
        (JUDGE, ["model", "input"]),
        (LABELS, ["model", "input", "labels", "passing_labels"]),
        (PYTHON, ["source"]),
        (MULTI, ["graders", "calculate_output"]),
        (ENDPOINT, ["url"]),
    ],
)
def test_required_fields_and_optional_names(definition: dict[str, Any], required: list[str]) -> None:
    built = build_grader(definition, trusted=True)
    built.close()
    assert built.name == definition["type"]
    named = build_grader({**definition, "name": "mine", "pass_threshold": 0.5}, trusted=True)
    named.close()
    assert named.name == "mine"
    for field in required:
        with pytest.raises(GraderError, match=rf"^grader\.{field}: is missing; add it"):
            build_grader({key: value for key, value in definition.items() if key != field}, trusted=True)


@pytest.mark.parametrize(
    ("operation", "answer", "value"),
    [
        ("eq", "TSC2", 1.0),
        ("eq", "tsc2", 0.0),
        ("ne", "TSC1", 1.0),
        ("ne", "TSC2", 0.0),
        ("neq", "TSC1", 1.0),
        ("like", "it is TSC2.", 1.0),
        ("like", "TSC", 0.0),  # the input contains the reference, not the other way round
        ("like", "it is tsc2.", 0.0),
        ("ilike", "it is tsc2.", 1.0),
    ],
)
def test_string_check(operation: str, answer: str, value: float) -> None:
    assert grade({**CHECK, "operation": operation}, answer, {"answer": "TSC2"}).value == value


METRICS = ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"]


@pytest.mark.parametrize("metric", METRICS)
def test_text_similarity(metric: str) -> None:
    definition = {**SIMILARITY, "evaluation_metric": metric}
    text = "the cat sat on the mat"
    same = 1.0 if metric != "meteor" else 1 - 0.5 / 6**3
    assert grade(definition, text, {"answer": text}).value == pytest.approx(same, abs=1e-12)
    assert grade(definition, "", {"answer": text}).value == 0.0


def test_text_similarity_by_cosine() -> None:
    services = Services(embed=lambda texts, model: [[3.0, 4.0], [4.0, 3.0]])
    assert grade({**SIMILARITY, "evaluation_metric": "cosine"}, "a", {"answer": "b"}, services=services).value == pytest.approx(0.96)


@pytest.mark.parametrize(
    ("more", "result", "value"),
    [
        ({}, 0.25, 0.25),
        ({}, 7, 1.0),  # clipped to the default range
        ({"range": None}, 7, 1.0),  # as echoes of the hosted product and its client's types have it
        ({}, -1, 0.0),
        ({"range": [0, 5]}, 4, 4.0),
        ({"range": [0, 5]}, 9, 5.0),
        ({"range": [-1, 1]}, -0.5, -0.5),
        ({"range": [0, 100]}, "87.5", 87.5),
    ],
)
def test_score_model_is_clipped_to_its_range(more: dict[str, Any], result: Any, value: float) -> None:
    assert judged({**JUDGE, **more}, result).value == value


def test_score_model_asks_with_openais_schema_and_settings() -> None:
    judge = SayingJudge(1)
    sampling = {"seed": 42, "top_p": 0.9, "temperature": 0.5, "max_completions_tokens": 99}
    content = ["Rate:", {"type": "input_text", "text": "{{ sample.output_text }}"}, {"type": "output_text", "text": '{"a": {}}'}]
    image = {"type": "input_image", "image_url": "https://x/{{ item.picture }}.png", "detail": "low"}
    messages = [{"role": "developer", "content": content, "type": "message"}, {"role": "user", "content": image}]
    definition = {**JUDGE, "input": messages, "sampling_params": sampling}
    assert grade(definition, "TSC2", {"picture": "mri"}, services=Services(ask=judge)).value == 1.0
    asked = judge.asked[0]
    assert asked.messages == (
        {"role": "developer", "content": 'Rate:\nTSC2\n{"a": {}}'},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/mri.png", "detail": "low"}}]},
    )
    assert asked.schema_name == "float_score_classification"
    assert list(asked.schema["properties"]) == ["steps", "result"] if asked.schema else False
    assert asked.params == {"seed": 42, "top_p": 0.9, "temperature": 0.5, "max_completion_tokens": 99}


@pytest.mark.parametrize("result", ["good enough", None, [1], "NaN", True])
def test_score_model_that_names_no_number_is_no_grade(result: Any) -> None:
    verdict = judged(JUDGE, result)
    assert (verdict.status, verdict.error_kind) == ("error", "model_grader_parse_error")


NOT_THEIRS = [("o4-mini", {"temperature": 1}, "temperature"), ("gpt-4o", {"reasoning_effort": "low"}, "reasoning_effort")]


@pytest.mark.parametrize(("model", "sampling", "field"), NOT_THEIRS)
def test_settings_a_judge_does_not_have(model: str, sampling: dict[str, Any], field: str) -> None:
    with pytest.raises(GraderError, match=rf"^grader\.sampling_params\.{field}: "):
        build_grader({**JUDGE, "model": model, "sampling_params": sampling})


@pytest.mark.parametrize(("label", "value"), [("good", 1.0), ("fair", 1.0), ("bad", 0.0)])
def test_label_model(label: str, value: float) -> None:
    assert judged(LABELS, label).value == value


def test_label_model_that_names_no_label_is_no_grade() -> None:
    assert judged(LABELS, "excellent").error_kind == "model_grader_parse_error"
    with pytest.raises(GraderError, match=r"^grader\.passing_labels: 'great' is none of the labels good, fair, bad"):
        build_grader({**LABELS, "passing_labels": ["great"]})


def test_python_gives_any_float() -> None:
    assert grade({**PYTHON, "image_tag": "2025-05-08"}).value == -2.5


def test_multi_takes_a_dict_a_list_or_one_grader_and_no_multi_inside() -> None:
    named = {**CHECK, "name": "a"}
    for graders in ({"a": CHECK}, [named], named):
        assert grade({**MULTI, "graders": graders, "calculate_output": "2 * a"}, "x", {"answer": "x"}).value == 2.0
    with pytest.raises(GraderError, match=r"^grader\.graders\.a\.type: a multi grader cannot stand inside another one"):
        build_grader({**MULTI, "graders": {"a": MULTI}})


def test_label_model_and_endpoint_may_be_parts_of_a_multi() -> None:
    judge = Services(ask=SayingJudge("good"))
    assert grade({**MULTI, "graders": {"a": LABELS}, "calculate_output": "a / 2"}, services=judge).value == 0.5
    build_grader({**MULTI, "graders": {"a": ENDPOINT}}).close()
