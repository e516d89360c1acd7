"""Programs as answers: executed in the sandbox, and what they give is what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pinetune.errors import MissingToolError
from pinetune.evals.answer_rules import Rule, open_rule
from pinetune.evals.voting import vote


@pytest.fixture(scope="module")
def rule() -> Iterator[Rule]:
    try:
        opened = open_rule("program")
    except MissingToolError as error:
        pytest.skip(f"this host cannot confine programs: {error}")
    yield opened
    opened.close()


def test_programs_that_give_the_same_number_agree(rule: Rule) -> None:
    answers = [
        "```python\ndef solution():\n    return 1 / 3\n```",
        "answer = 5",
        "So:\n```\nimport math\nprint(math.sqrt(1 / 9))\n```",
        "def solution():\n    raise ValueError",
        "I do not know",
    ]
    voted = vote(answers, rule)
    assert (voted.index, voted.shown, voted.num_read, voted.share) == (0, "0.333333333333", 3, 0.4)


@pytest.mark.parametrize(
    "program", ["open('/etc/passwd')\nanswer = 1", "import os\nanswer = 1", "answer = float('nan')", "answer = 'text'", ""]
)
def test_a_program_that_reaches_out_or_gives_no_number_says_nothing(rule: Rule, program: str) -> None:
    assert rule.read(program) is None
