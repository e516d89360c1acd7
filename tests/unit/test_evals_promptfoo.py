"""promptfoo configs: what both know is read, what has no counterpart is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pinetune.errors import UserError
from pinetune.evals.cases import Prompter
from pinetune.evals.criteria import Criteria
from pinetune.evals.promptfoo import read_promptfoo
from pinetune.records import Completion

confined = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed; python graders cannot be confined")
GOOD = """
description: capitals
prompts: ["What is the capital of {{country}}?"]
providers: [openai:gpt-4.1]
defaultTest:
  assert:
    - {type: icontains, value: "{{capital}}"}
tests:
  - vars: {country: France, capital: Paris}
    assert: [{type: equals, value: Paris, metric: exact}, {type: llm-rubric, value: "names {{capital}} only", provider: "openai:o3"}]
  - vars: {country: Peru, capital: Lima}
    assert: [{type: equals, value: Lima, metric: exact}, {type: llm-rubric, value: "names {{capital}} only", provider: "openai:o3"}]
"""


def read(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(text)
    return read_promptfoo(path)


def test_prompt_rows_and_shared_assertions(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert (found.name, [criterion["id"] for criterion in found.criteria]) == ("capitals", ["icontains", "exact", "llm-rubric"])
    first, exact, rubric = found.criteria
    assert (first["operation"], first["reference"]) == ("ilike", "{{ item.capital }}")
    assert (exact["operation"], exact["reference"]) == ("eq", "{{ item.expected_2 }}")
    assert found.rows == [
        {"country": "France", "capital": "Paris", "expected_2": "Paris"}, {"country": "Peru", "capital": "Lima", "expected_2": "Lima"},
    ]  # fmt: skip
    assert (rubric["type"], rubric["model"], rubric["pass_threshold"]) == ("score_model", "o3", 0.5)
    assert "names {{ item.capital }} only" in rubric["input"][0]["content"]
    assert Prompter(found.input_messages).messages(found.rows[1]) == [{"role": "user", "content": "What is the capital of Peru?"}]


@confined
@pytest.mark.parametrize(
    ("assertion", "passes", "fails"),
    [
        ('{type: regex, value: "^[0-9]{2}$"}', "42", "4 2"),
        ("{type: contains, value: OK}", "all OK", "all ok"),
        ("{type: not-contains, value: sorry}", "here", "I am sorry"),
        ("{type: not-equals, value: no}", "yes", "no"),
        ("{type: starts-with, value: Dear}", "Dear you", "Oh Dear"),
        ("{type: contains-any, value: [a1, b2]}", "x b2", "a b"),
        ("{type: not-icontains-all, value: 'A, B'}", "a", "b a"),
        ("{type: is-json}", '{"a": 1}', "{a}"),
        ("{type: python, value: \"len(output) == context['vars']['n']\"}", "abc", "ab"),
        ("{type: python, value: \"n = len(output)\\nreturn {'score': n / 3}\"}", "abc", "a"),
    ],
)
def test_each_assertion_passes_and_fails(tmp_path: Path, assertion: str, passes: str, fails: str) -> None:
    found = read(tmp_path, f"prompts: hi\ntests:\n  - vars: {{n: 3}}\n    assert: [{assertion}]\n")
    criteria = Criteria(found.criteria)
    try:
        verdicts = [criteria.grade(Completion((), (), (), "stop", text), found.rows[0])[0] for text in (passes, fails)]
    finally:
        criteria.close()
    assert [(verdict["passed"], verdict.get("error")) for verdict in verdicts] == [(True, None), (False, None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "prompts: hi\ntests: [{assert: [{type: javascript, value: 'true'}]}]",
            "javascript has no counterpart here; rewrite it as a python",
        ),
        ("prompts: hi\ntests: [{assert: [{type: contain, value: x}]}]", "contain has no counterpart here; known: equals"),
        ("prompts: hi\ntests: tests.csv", "tests: must be a list"),
        ("prompts: [a, b]\ntests: [{assert: [{type: is-json}]}]", "prompts: must be one text"),
        ("prompts: hi\ntests: [{vars: {a: 1}}]", "make no assertions"),
        ("prompts: hi\ntests: [{assert: [{type: is-json}]}, {assert: [{type: equals, value: x}]}]", r"tests\[1\].assert: makes other"),
        ("prompts: '{{ a | upper }}'\ntests: [{assert: [{type: is-json}]}]", "filters have no counterpart"),
        ("prompts: hi\ntests: [{assert: [{type: equals, value: x, weight: 2}]}]", "criteria have no weights"),
        ("prompts: hi\ntests: [{assert: [{type: equals, value: x, transform: output.a}]}]", "transform: has no counterpart"),
        ("[1, 2", "not YAML"),
    ],
)
def test_what_has_no_counterpart_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"promptfooconfig.yaml: .*{said}"):
        read(tmp_path, text)
