"""Python graders as OpenAI describes them; what confines them is tested with the sandbox."""

from __future__ import annotations

import inspect
import json
import textwrap
from typing import Any

import pytest
from grading import grade

from pinetune.demo import gene_grader
from pinetune.errors import GraderError
from pinetune.graders.build import build_grader
from pinetune.graders.python import MAX_SOURCE_BYTES
from pinetune.sandbox.limits import Limits


def python(source: str, **more: Any) -> dict[str, Any]:
    return {"type": "python", "source": textwrap.dedent(source), **more}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def grade(sample, item): return 0.5", 0.5),
        ("def grade(sample, item): return -2.5", -2.5),  # any float: no clamp
        ("def grade(sample, item): return 7", 7.0),
        ("def grade(sample, item): return True", 1.0),
        ("import numpy as np\ndef grade(sample, item): return np.float32(0.25)", 0.25),
        ("import numpy as np\ndef grade(sample, item): return np.mean([0, 1])", 0.5),
        ("def grade(sample, item, weights=[0.25, 0.75]): return weights[1]", 0.75),
        ("def grade(sample: dict, item: dict) -> float: return float(sample['output_text'] == item['answer'])", 1.0),
        ("import json\nHALF = json.loads('0.5')\ndef helper(x): return x * HALF\ndef grade(sample, item): return helper(1)", 0.5),
        ("def score(sample, item): return 0.5\ngrade = score", 0.5),
    ],
)
def test_entry_and_what_it_returns(source: str, value: float) -> None:
    assert grade(python(source, image_tag="2025-05-08"), "TSC2", {"answer": "TSC2"}).value == value


def test_it_sees_the_five_sample_keys_and_the_whole_item() -> None:
    calls = ({"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},)
    source = "import json\ndef grade(sample, item):\n    print(json.dumps([sample, item]))\n    return 1"
    item = {"messages": [{"role": "user", "content": "q"}], "answer": "TSC2"}
    verdict = grade(python(source), '{"a": 1}', item, json_answers=True, tool_calls=calls)
    sample, seen = json.loads(verdict.explanation)
    assert seen == item
    message = {"role": "assistant", "content": '{"a": 1}', "tool_calls": list(calls)}
    assert sample == {
        "output_text": '{"a": 1}',
        "output_json": {"a": 1},
        "output_tools": list(calls),
        "output_audio": None,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no gene in ' + sample['output_text'])", "ValueError: no gene in TSC2"),
        ("return None", "TypeError: grade() must return a number, not None"),
        ("return 'high'", "TypeError: grade() must return a number, not str"),
        ("return float('nan')", "ValueError: grade() must return a finite number, not nan"),
        ("return float('inf')", "ValueError: grade() must return a finite number, not inf"),
        ("return [1.0]", "TypeError: grade() must return a number, not list"),
        ("return item['absent']", "KeyError: 'absent'"),
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_failures_are_flagged_and_never_a_value(body: str, said: str) -> None:
    verdict = grade(python(f"def grade(sample, item):\n    {body}\n"), "TSC2")
    assert (verdict.status, verdict.error_kind) == ("error", "python_grader_runtime_error")
    assert said in verdict.explanation


def test_the_source_of_a_whole_module() -> None:
    """`inspect.getsource(module)` is the documented way to hand in a grader."""
    definition = {"type": "python", "source": inspect.getsource(gene_grader)}
    assert grade(definition, '{"genes": ["TSC1", "TSC2"]}', {"reference_answer": "TSC2"}).value == 0.7


def test_the_source_is_smaller_than_256_kb() -> None:
    source = "def grade(sample, item): return 1.0\n"
    fits = source + "#" * (MAX_SOURCE_BYTES - len(source) - 1)
    assert (len(fits), grade(python(fits)).value) == (255_999, 1.0)
    with pytest.raises(GraderError, match=r"^grader\.source: 256000 bytes; a grader's source must be smaller than 256000 bytes"):
        build_grader(python(fits + "#"))


def test_two_minutes_two_gigabytes_and_a_disk_of_one() -> None:
    limits = Limits()
    assert limits.wall_seconds == 120
    assert limits.memory_bytes == 2 * 1024**3
    assert limits.disk_bytes == 1024**3
