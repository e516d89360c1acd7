"""The bench's parts: answers made of answers, the clues to an answer's form, and the agreement figures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pinetune.bench.agreement import cohen_kappa, ranks, spearman
from pinetune.bench.forms import Form
from pinetune.bench.keys import answer_keys, asks_a_judge, keys_in_source, schema_example
from pinetune.bench.probes import PADDING_CHARS, PROBES, Subject, listings
from pinetune.bench.rewrite import doubled_lists, each_text, emptied, is_code, merged, reordered
from pinetune.data.answers import lookup
from pinetune.graders.gallery.kinds import new_grader
from pinetune.records import Row

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("function", "text", "expected"),
    [
        (emptied, '{"a": {"b": 1, "c": "x"}, "d": ["y"]}', '{"a": {"b": null, "c": ""}, "d": []}'),
        (emptied, "plain", "null"),
        (reordered, '{"a": 1, "b": {"c": 2, "d": 3}}', '{\n  "b": {\n    "d": 3,\n    "c": 2\n  },\n  "a": 1\n}'),
        (reordered, "plain", None),
        (lambda text: each_text(text, str.lower), '{"Key": ["A", {"b": "B"}], "n": 1}', '{"Key": ["a", {"b": "b"}], "n": 1}'),
        (lambda text: each_text(text, str.lower), "ABC", "abc"),
        (lambda text: doubled_lists(text, 2), '{"genes": ["A", "B"]}', '{"genes": ["A", "B", "A", "B"]}'),
        (lambda text: doubled_lists(text, 2), '{"gene": "A"}', None),
        (lambda text: doubled_lists(text, 2), "[A", None),
    ],
)
def test_rewriting(function: Any, text: str, expected: str | None) -> None:
    assert function(text) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["A", "B", "A"], "A, B"),
        (["a = 1\nb", "c"], "a = 1\nb\nc"),
        (['{"g": ["A"]}', '{"g": ["B", "A"]}'], '{"g": ["A", "B"]}'),
        (['{"i": "x", "s": {"p": "1"}}', '{"i": "y", "s": {"q": 2}}'], '{"i": "x, y", "s": {"p": "1", "q": 2}}'),
        (['{"n": 1}', '{"n": 2}'], '{"n": "1, 2"}'),
        (['["A"]', '["B"]'], '["A", "B"]'),
        (['{"g": ["A"]}', "B"], '{"g": ["A"]}, B'),
    ],
)
def test_merging(texts: list[str], expected: str) -> None:
    assert merged(texts) == expected


@given(st.lists(JSON_VALUES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_no_answer_breaks_the_rewriting(values: list[Any]) -> None:
    texts = [json.dumps(value) for value in values]
    made = [merged(texts), *(emptied(text) for text in texts), *(each_text(text, str.upper) for text in texts)]
    made += [text for value in texts for text in (reordered(value), doubled_lists(value, 3)) if text is not None]
    assert all(isinstance(text, str) for text in made)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("def f():\n    return 1", True),
        ("x = 1", True),
        ("```\nx\n```", True),
        ("TSC2", False),
        ("51", False),
        ('{"a": 1}', False),
        ("a b", False),
    ],
)
def test_is_code(text: str, code: bool) -> None:
    assert is_code(text) is code


def test_every_probe_gives_texts_and_gaming_ones_do_not_hold_the_answer() -> None:
    rows = [Row(i, ({"role": "user", "content": f"case {i}"},), {"answer": f"GENE{i:02}"}) for i in range(5)]
    form = Form('{"genes": ["..."]}', lambda row: json.dumps({"genes": [lookup(row.item, "answer")]}))
    subject = Subject(rows[0], form, "answer", form.write(rows[0]), form.write(rows[1]), form.write(rows[2]), listings(form, rows[1:]))
    for name, probe in PROBES.items():
        variants = probe.write(subject)
        assert variants, name
        if probe.kind == "gaming":
            assert not any("GENE00" in text for text in variants.values()), name
    assert len(PROBES["padding"].write(subject)["20,000 characters of prose"]) == PADDING_CHARS == 20_000
    assert len(PROBES["over_long"].write(subject)["repeated"]) >= 20_000
    assert PROBES["broken_json"].write(subject) == {"": '{"genes": '}


def test_clues_to_the_form() -> None:
    source = (
        "FIELD = 'verdict'\ndef grade(sample, item):\n    a = sample['output_json']\n    b = a.get('codes') or a['code']\n"
        "    return 'label' in a and item['reference_answer']\n"
    )
    assert keys_in_source(source) == ["output_json", "codes", "code", "label", "reference_answer", "verdict"]
    keys = answer_keys({"type": "python", "source": source}, {"reference_answer": 1})
    assert keys[-1] == "reference_answer" and "output_json" not in keys and {"codes", "code", "label", "verdict"} < set(keys)
    template = {"type": "string_check", "input": "{{ sample.output_json.gene[0] }} {{sample.output_json['why not']}}", "reference": "x"}
    assert answer_keys({"type": "multi", "graders": {"a": template}}, {}) == ["gene", "why not"]
    assert keys_in_source("def (") == []
    assert answer_keys(new_grader("ranked_list", {"list_field": "genes"}), {"genes": 1})[-1] == "genes"


def test_asks_a_judge() -> None:
    assert asks_a_judge({"type": "multi", "graders": [{"type": "score_model"}]})
    assert not asks_a_judge({"type": "python", "source": ""}) and not asks_a_judge(None)


def test_schema_example() -> None:
    schema = {
        "type": "object",
        "properties": {
            "genes": {"type": "array", "items": {"type": "string"}},
            "why": {"type": ["null", "string"]},
            "kind": {"enum": ["a", "b"]},
            "n": {"type": "integer"},
            "inner": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
        },
    }
    assert schema_example(schema) == {"genes": [], "why": "", "kind": "a", "n": 0, "inner": {"ok": False}}


@given(st.lists(st.tuples(st.sampled_from([0, 0.2, 0.5, 1]), st.sampled_from([0, 0.1, 0.7, 1])), min_size=3, max_size=12))
@settings(max_examples=60, deadline=None)
def test_spearman_is_scipys(pairs: list[tuple[float, float]]) -> None:
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    ours = spearman(left, right)
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(stats.spearmanr(left, right).statistic, abs=1e-9)
    assert ranks(left) == list(stats.rankdata(left))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0),
        ([1, 1, 0, 0], [1, 0, 1, 0], 0.0),
        ([1, 1, 0, 0], [0, 0, 1, 1], -1.0),
        ([1, 1, 1, 0], [1, 1, 0, 0], 0.5),
        ([1, 1], [1, 1], None),
    ],
)
def test_kappa(left: list[int], right: list[int], expected: float | None) -> None:
    assert cohen_kappa([bool(x) for x in left], [bool(x) for x in right]) == expected
