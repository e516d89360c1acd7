"""A promptfoo config (YAML) as an eval: prompts, rows and the assertions that both know. What has no counterpart is a clear complaint.

promptfoo asserts per test, an eval grades all rows by the same criteria. So the tests must make the same assertions in the same
order; what differs between them (the expected value) moves into the row as `item.expected_1`, `item.expected_2`, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pinetune.errors import UserError
from pinetune.evals.eval_file import DEFAULTS, EvalFile, named
from pinetune.wire.evals import Template

VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][\w.]*)\s*(\|[^}]*)?\}\}")
SIMILAR_THRESHOLD = 0.75  # promptfoo's own default
RUBRIC = (
    "You grade an answer against a rubric. Give result 1 where the answer meets the rubric, 0 where it does not, a number between "
    "where it meets it in part.\n\nRubric:\n{rubric}\n\nAnswer:\n{{{{ sample.output_text }}}}"
)
HEAD = "import json\nimport re\n\n\ndef grade(sample, item):\n    output = sample['output_text'] or ''\n    value = {value}\n    "
# Each gives the body of a python grader: `output` is the answer, `value` what is expected.
PYTHON = {
    "regex": "return float(re.search(str(value), output) is not None)",
    "starts-with": "return float(output.startswith(str(value)))",
    "contains-any": "return float(any(str(v) in output for v in value))",
    "contains-all": "return float(all(str(v) in output for v in value))",
    "icontains-any": "return float(any(str(v).lower() in output.lower() for v in value))",
    "icontains-all": "return float(all(str(v).lower() in output.lower() for v in value))",
    "is-json": "try:\n        json.loads(output)\n    except ValueError:\n        return 0.0\n    return 1.0",
}
STRING = {"equals": "eq", "contains": "like", "icontains": "ilike"}
KNOWN = (*STRING, *PYTHON, "not-...", "similar", "llm-rubric", "python")


def read_promptfoo(path: Path) -> EvalFile:
    """Raises UserError naming the file and the place in it, one line a fault."""
    import yaml

    try:
        config = _load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: is no promptfoo config; one has prompts, providers and tests")
    return _Reader(path).read(config)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._faults: list[str] = []

    def read(self, config: Mapping[str, Any]) -> EvalFile:
        default = config.get("defaultTest") or {}
        tests = self._tests(config.get("tests"))
        rows, shapes = self._rows(tests, default if isinstance(default, Mapping) else {})
        criteria = self._criteria(shapes)
        prompt = self._prompt(config.get("prompts"))
        if not criteria and not self._faults:
            self._fault("tests", "make no assertions; add an assert, such as {type: equals, value: ...}")
        if self._faults:
            raise UserError("\n".join(f"{self._path}: {fault}" for fault in self._faults))
        messages = Template.model_validate({"type": "template", "template": [{"role": "user", "content": prompt}]})
        name = str(config.get("description") or self._path.stem)
        return EvalFile(name, named(criteria), input_messages=messages, params=dict(DEFAULTS), rows=rows)

    def _fault(self, where: str, what: str) -> None:
        self._faults.append(f"{where}: {what}")

    def _tests(self, tests: Any) -> list[Mapping[str, Any]]:
        if not isinstance(tests, list) or not all(isinstance(test, Mapping) for test in tests) or not tests:
            self._fault("tests", "must be a list of tests in this file (files and generators are not read)")
            return []
        return tests

    def _prompt(self, prompts: Any) -> str:
        listed = prompts if isinstance(prompts, list) else [prompts]
        text = listed[0]["raw"] if len(listed) == 1 and isinstance(listed[0], Mapping) and "raw" in listed[0] else listed[0]
        if len(listed) != 1 or not isinstance(text, str) or text.startswith("file://"):
            self._fault("prompts", "must be one text in this file; compare several prompts by several runs")
            return ""
        return self._template(text, "prompts[0]")

    def _rows(self, tests: Sequence[Mapping[str, Any]], default: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        """The items, and for each place in the list of assertions what the tests put there: (type, values, assertion) each."""
        rows: list[dict[str, Any]] = []
        columns: list[list[Mapping[str, Any]]] = []
        for index, test in enumerate(tests):
            asserts = [*(default.get("assert") or []), *(test.get("assert") or [])]
            item = {**(default.get("vars") or {}), **(test.get("vars") or {})}
            wrong = next((name for name in item if "expected_" in str(name)), None)
            if wrong is not None:
                self._fault(f"tests[{index}].vars.{wrong}", "is a name that this reader needs; rename it")
            columns = columns or [[] for _ in asserts]
            kinds = [assertion.get("type") for assertion in asserts]
            if kinds != [column[0].get("type") if column else kinds[place] for place, column in enumerate(columns)] or len(kinds) != len(
                columns
            ):
                self._fault(
                    f"tests[{index}].assert", "makes other assertions than tests[0]; criteria hold for all rows: split the file by them"
                )
                continue
            for column, assertion in zip(columns, asserts, strict=True):
                column.append(assertion)
            rows.append(item)
        for place, column in enumerate(columns):
            for item, assertion in zip(rows, column, strict=True):
                if not all(other.get("value") == column[0].get("value") for other in column):
                    item[f"expected_{place + 1}"] = self._filled(assertion.get("value"), item)
        return rows, [list(column) for column in columns]

    def _criteria(self, columns: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        found = []
        for place, column in enumerate(columns):
            if not column:
                continue
            same = all(other.get("value") == column[0].get("value") for other in column)
            made = self._criterion(column[0], place, same)
            if made is not None:
                found.append(made)
        return found

    def _criterion(self, assertion: Mapping[str, Any], place: int, same: bool) -> dict[str, Any] | None:
        where = f"assert[{place}]"
        kind, value = str(assertion.get("type")), assertion.get("value")
        plain = kind.removeprefix("not-")
        unknown = sorted(set(assertion) - {"type", "value", "threshold", "metric", "provider", "weight"})
        if unknown:
            self._fault(f"{where}.{unknown[0]}", "has no counterpart here; remove it")
        if assertion.get("weight", 1) != 1:
            self._fault(f"{where}.weight", "criteria have no weights: each passes or fails; make a multi grader for a weighted score")
        named_by = {"name": str(assertion.get("metric") or kind)}
        template = f"{{{{ item.expected_{place + 1} }}}}"
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "similar": lambda: self._similar(assertion, template if not same else None, where),
            "llm-rubric": lambda: self._rubric(assertion, template if not same else None, where),
            "python": lambda: self._python(value, same, where),
        }
        if kind in ("equals", "contains", "icontains", "not-equals"):
            operation = "ne" if kind == "not-equals" else STRING[kind]
            reference = self._template(_as_text(value), f"{where}.value") if same else template
            return {**named_by, "type": "string_check", "input": "{{ sample.output_text }}", "reference": reference, "operation": operation}
        if kind in makers:
            return {**named_by, **makers[kind]()}
        if plain in PYTHON or (plain in STRING and plain != kind):
            return {**named_by, **self._by_python(kind, plain, value, place, same, where)}
        advice = "rewrite it as a python assertion" if "javascript" in kind else f"known: {', '.join(KNOWN)}"
        self._fault(f"{where}.type", f"{kind} has no counterpart here; {advice}")
        return None

    def _similar(self, assertion: Mapping[str, Any], template: str | None, where: str) -> dict[str, Any]:
        reference = template or self._template(_as_text(assertion.get("value")), f"{where}.value")
        body = {"type": "text_similarity", "input": "{{ sample.output_text }}", "reference": reference, "evaluation_metric": "cosine"}
        return {**body, "pass_threshold": float(assertion.get("threshold") or SIMILAR_THRESHOLD)}

    def _rubric(self, assertion: Mapping[str, Any], template: str | None, where: str) -> dict[str, Any]:
        judge = assertion.get("provider")
        model = str(judge).split(":")[-1] if isinstance(judge, str) else "gpt-4.1"
        rubric = template or self._template(_as_text(assertion.get("value")), f"{where}.value")
        said = [{"role": "user", "content": RUBRIC.format(rubric=rubric)}]
        return {
            "type": "score_model",
            "model": model,
            "input": said,
            "range": [0, 1],
            "pass_threshold": float(assertion.get("threshold") or 0.5),
        }

    def _python(self, value: Any, same: bool, where: str) -> dict[str, Any]:
        """promptfoo's python: an expression, or lines that return; it reads `output` and `context['vars']`."""
        code = str(value).strip("\n")
        if not same or code.startswith("file://"):
            self._fault(f"{where}.value", "must be python in this file, the same in all tests")
            return {"type": "python", "source": ""}
        lines = code.splitlines()
        body = lines if len(lines) > 1 else [f"return {code}"]
        inner = "\n".join(f"        {line}" for line in body)
        source = (
            f"import json\nimport re\n\n\ndef grade(sample, item):\n    output, context = sample['output_text'] or '', {{'vars': item}}\n\n"
            f"    def asserted():\n{inner}\n\n    found = asserted()\n"
            "    return float(found['score'] if isinstance(found, dict) else found)\n"
        )
        return {"type": "python", "source": source}

    def _by_python(self, kind: str, plain: str, value: Any, place: int, same: bool, where: str) -> dict[str, Any]:
        if plain.startswith(("contains-a", "icontains-a")) and same and not isinstance(value, list):
            value = [part.strip() for part in str(value).split(",")]
        if same and isinstance(value, str) and VARIABLE.search(value):
            self._fault(f"{where}.value", f"{kind} cannot hold variables here; write the value out in each test")
        code = {"equals": "return float(output == str(value))", "contains": "return float(str(value) in output)"}.get(plain) or PYTHON.get(
            plain
        )
        code = code or "return float(str(value).lower() in output.lower())"
        read = (
            json.dumps(value)
            if same and not isinstance(value, list | bool | type(None))
            else repr(value)
            if same
            else f"item['expected_{place + 1}']"
        )
        source = HEAD.format(value=read) + code + "\n"
        if kind != plain:
            source = source.replace("def grade(", "def holds(") + "\n\ndef grade(sample, item):\n    return 1.0 - holds(sample, item)\n"
        return {"type": "python", "source": source}

    def _template(self, text: str, where: str) -> str:
        """promptfoo's variables are the row's: `{{ name }}` becomes `{{ item.name }}`."""

        def as_item(match: re.Match[str]) -> str:
            if match[2]:
                self._fault(where, f"{match[0]}: filters have no counterpart here; put the filtered text into the row")
            return f"{{{{ item.{match[1]} }}}}"

        if "{%" in text:
            self._fault(where, "loops and conditions have no counterpart here; put the finished text into the rows")
        return VARIABLE.sub(as_item, text)

    def _filled(self, value: Any, item: Mapping[str, Any]) -> Any:
        """A test's value with its own variables put in."""
        if not isinstance(value, str):
            return value
        return VARIABLE.sub(lambda match: _as_text(item.get(match[1], match[0])), value)


def _load(text: str) -> Any:
    """promptfoo reads YAML 1.2, where yes, no, on and off are words; PyYAML's own loader takes them for truth values."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    return yaml.load(text, Loader)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
