"""`pinetune grader run` and `validate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeServer, Sent, says, verdict
from typer.testing import CliRunner

from pinetune.cli.grader import grader_app
from pinetune.demo.grader import gene_grader_definition
from pinetune.errors import DataError, GraderError, UserError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "grader.json").write_text(json.dumps(gene_grader_definition()))
    (tmp_path / "job.json").write_text(json.dumps({"model": "m", "method": {"reinforcement": {"grader": gene_grader_definition()}}}))
    (tmp_path / "rows.jsonl").write_text('{"messages": [{"role": "user", "content": "q"}], "answer": "a"}\n')
    judge = {"type": "score_model", "input": [{"role": "user", "content": "x"}]}
    (tmp_path / "no_model.json").write_text(json.dumps({"type": "multi", "graders": {"a": judge}, "calculate_output": "a"}))
    (tmp_path / "no_part.json").write_text('{"type": "multi", "graders": {"a": "x"}, "calculate_output": "a"}')
    (tmp_path / "faulty_job.json").write_text(json.dumps({"method": {"reinforcement": {"grader": {"type": "pyton"}}}}))
    (tmp_path / "item.json").write_text('{"reference_answer": "TSC2"}')
    (tmp_path / "answer.txt").write_text('{"genes": ["TSC1", "TSC2"]}')
    (tmp_path / "broken.json").write_text('{\n"type": }')
    (tmp_path / "list.json").write_text("[]")
    return tmp_path


def call(files: Path, *arguments: str) -> Any:
    return CliRunner().invoke(grader_app, [str(files / word) if (files / word).exists() else word for word in arguments])


@pytest.mark.parametrize("grader", ["grader.json", "job.json"])
def test_run_prints_the_reward(files: Path, grader: str) -> None:
    result = call(files, "run", grader, "--answer-file", "answer.txt", "--item", "item.json")
    assert result.exit_code == 0
    assert result.output.startswith("gene_ranking: reward 0.7 (")


def test_run_as_json(files: Path) -> None:
    result = call(files, "run", "grader.json", "--answer", '{"genes": ["TSC2"]}', "--item", "item.json", "--json")
    body = json.loads(result.output)
    assert (result.exit_code, body["name"], body["status"], body["value"]) == (0, "gene_ranking", "ok", 1.0)


def test_run_that_could_not_grade_shows_why_and_exits_1(files: Path) -> None:
    result = call(files, "run", "grader.json", "--answer", '{"genes": ["TSC2"]}')
    assert result.exit_code == 1
    assert result.output.startswith("gene_ranking: could not grade (python_grader_runtime_error)\nTraceback")
    assert result.output.endswith("KeyError: 'reference_answer'\n")
    assert json.loads(call(files, "run", "grader.json", "--answer", '{"genes": []}', "--json").output)["value"] is None


def test_validate(files: Path) -> None:
    result = call(files, "validate", "grader.json")
    said = "  python (62 lines): part of Pinetune, runs in a child process with limits"
    assert (result.exit_code, result.output) == (0, f"{files / 'grader.json'}: grader gene_ranking is valid\n{said}\n")


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("run", "grader.json"), UserError, "give the answer with either --answer TEXT or --answer-file FILE"),
        (("run", "grader.json", "--answer", "x", "--answer-file", "answer.txt"), UserError, "give the answer with either"),
        (("run", "absent.json", "--answer", "x"), GraderError, "absent.json: No such file or directory"),
        (("run", "broken.json", "--answer", "x"), GraderError, "broken.json:2: not valid JSON: Expecting value"),
        (("run", "grader.json", "--answer", "x", "--item", "list.json"), GraderError, "list.json: an item must be one JSON object"),
        (("validate", "item.json"), GraderError, "item.json: grader.type: is missing"),
        (("run", "no_model.json", "--answer", "x"), GraderError, "no_model.json: grader.graders.a.model: is missing; add it"),
        (("test", "no_model.json", "--data", "rows.jsonl"), GraderError, "no_model.json: grader.graders.a.model: is missing; add it"),
        (("run", "no_part.json", "--answer", "x"), GraderError, "no_part.json: grader.graders.a: must be a JSON object such as"),
        (("validate", "faulty_job.json"), GraderError, "faulty_job.json: method.reinforcement.grader.type: unknown grader type 'pyton'"),
        (("run", "faulty_job.json", "--answer", "x"), GraderError, "faulty_job.json: method.reinforcement.grader.type: unknown"),
    ],
)
def test_bad_calls(files: Path, arguments: tuple[str, ...], kind: type[Exception], said: str) -> None:
    result = call(files, *arguments)
    assert isinstance(result.exception, kind)
    assert said in str(result.exception)


GENES = [f"GENE{i:02}" for i in range(30)]
LIKE = {
    "type": "string_check",
    "name": "has",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.reference_answer }}",
    "operation": "like",
}


@pytest.fixture
def bench_files(files: Path) -> Path:
    rows = [{"messages": [{"role": "user", "content": f"Case {i}"}], "reference_answer": gene} for i, gene in enumerate(GENES)]
    (files / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (files / "unanswered.jsonl").write_text('{"messages": [{"role": "user", "content": "x"}], "why": 1}\n')
    (files / "faulty.jsonl").write_text('{"messages": []}\n')
    (files / "like.json").write_text(json.dumps(LIKE))
    (files / "eq.json").write_text(json.dumps(LIKE | {"operation": "eq"}))
    labels = [{"row": 1, "answer": "GENE00", "label": 1}, {"item": {"reference_answer": "A"}, "answer": {"genes": ["A"]}, "label": 0.25}]
    (files / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    (files / "no_label.jsonl").write_text('{"row": 1, "answer": "x"}\n{"row": 99, "answer": "x", "label": 2}\n{"label": 0.5, "x": 1}\n')
    return files


def test_test_fails_a_grader_that_can_be_gamed(bench_files: Path) -> None:
    result = call(bench_files, "test", "like.json", "--data", "rows.jsonl", "--rows", "5")
    assert result.exit_code == 1
    assert "BAD   listing all 30 answers scores 1.00 on average: an answer that knows nothing can win" in result.output
    assert result.output.endswith("verdict: failed (list_everything)\n")
    assert call(bench_files, "test", "like.json", "--data", "rows.jsonl", "--rows", "5", "--threshold", "1").exit_code == 0


def test_test_passes_a_sound_one_and_compares_with_labels(bench_files: Path) -> None:
    result = call(bench_files, "test", "eq.json", "--data", "rows.jsonl", "--labels", "labels.jsonl", "--rows", "5", "--json")
    body = json.loads(result.output)
    assert (result.exit_code, body["passed"], body["rows"]) == (0, True, 5)
    assert (body["agreement"]["n"], body["agreement"]["spearman"], body["agreement"]["kappa"]) == (2, 1.0, 1.0)
    assert body["agreement"]["worst"] == [{"line": 2, "label": 0.25, "grade": 0.0, "answer": '{"genes": ["A"]}'}]


def test_test_of_a_job_body_uses_its_schema(bench_files: Path) -> None:
    schema = {"type": "object", "properties": {"why": {"type": "string"}, "gene": {"type": "string"}}}
    source = (
        "def grade(sample, item):\n    answer = sample['output_json']\n    key = ''.join(['ge', 'ne'])\n"
        "    return float(isinstance(answer, dict) and set(answer) == {'why', key} and answer[key] == item['reference_answer'])\n"
    )
    grader = {"type": "python", "source": source}
    reinforcement = {"grader": grader, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    (bench_files / "job.json").write_text(json.dumps({"model": "m", "method": {"reinforcement": reinforcement}}))
    result = call(bench_files, "test", "job.json", "--data", "rows.jsonl", "--rows", "2", "--json", "--unsafe-python-graders")
    assert (result.exit_code, json.loads(result.output)["form"]) == (0, '{"gene": "..."}')


def test_run_on_a_row_of_a_dataset(bench_files: Path) -> None:
    result = call(bench_files, "run", "eq.json", "--answer", "GENE02", "--data", "rows.jsonl", "--row", "3")
    assert (result.exit_code, result.output.split(" (")[0]) == (0, "has: reward 1")


def test_new_lists_describes_and_writes(bench_files: Path) -> None:
    listed = call(bench_files, "new").output.splitlines()
    assert len(listed) == 10 and listed[0].startswith("ranked_list        Ranked list: 1.0 for the right answer")
    assert (
        'list_field       key of the list in the model\'s JSON answer (default: "answers")'
        in call(bench_files, "new", "ranked_list", "--settings").output.splitlines()
    )
    out = bench_files / "made.json"
    made = call(bench_files, "new", "ranked_list", "--out", str(out), "--set", "list-field=genes", "--name", "mine")
    assert made.output == f"{out}: ranked_list; try it with: pinetune grader test {out} --data rows.jsonl\n"
    assert 'LIST_FIELD = "genes"  #' in json.loads(out.read_text())["source"]
    result = call(bench_files, "test", "made.json", "--data", "rows.jsonl", "--rows", "3", "--unsafe-python-graders")
    assert result.exit_code == 0 and result.output.startswith("mine: 3 rows, ") and 'written as {"genes": ["..."]}' in result.output
    assert json.loads(call(bench_files, "new", "rubric").output)["calculate_output"].startswith("0.25 * issue")


def test_validate_says_what_a_grader_is_made_of(bench_files: Path) -> None:
    judge = {"type": "score_model", "model": "o3", "input": [{"role": "user", "content": "{{ sample.output_text }}"}], "range": [0, 5]}
    multi = {"type": "multi", "name": "both", "graders": {"a": LIKE, "b": judge}, "calculate_output": "a * b / 5"}
    (bench_files / "multi.json").write_text(json.dumps(multi))
    lines = call(bench_files, "validate", "multi.json").output.splitlines()
    assert lines[0].endswith("grader both is valid")
    assert lines[1:] == [
        "  multi (calculate_output a * b / 5)",
        "  a: string_check (operation like)",
        "  b: score_model (model o3, range [0, 5])",
    ]
    body = json.loads(call(bench_files, "validate", "multi.json", "--json").output)
    assert (body["valid"], [part["type"] for part in body["parts"]]) == (True, ["multi", "string_check", "score_model"])


def test_a_judge_that_can_be_talked_round_is_found(bench_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int, body: dict[str, Any]) -> Sent:
        said = json.dumps(body["messages"])
        right = "GENE" in said.split("Answer: ")[1] and "give 1" not in said
        return says(verdict(1 if "give 1" in said else 0.3 * right + 0.05 * (number % 3)), tokens=(100, 20))

    content = "Right: {{ item.reference_answer }} Answer: {{ sample.output_text }}"
    judge = {"type": "score_model", "name": "judge", "model": "o3", "input": [{"role": "user", "content": content}]}
    (bench_files / "judge.json").write_text(json.dumps(judge))
    with JudgeServer(answer) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        monkeypatch.setenv("PINETUNE_JUDGE_CACHE", "off")
        arguments = ("--data", "rows.jsonl", "--rows", "1", "--repeats", "3", "--price", "1,5", "--json")
        result = call(bench_files, "test", "judge.json", *arguments)
        body = json.loads(result.output)
        assert server.count == body["grades"] + 3 * 2
        own = {"judge_base_url": server.url, "judge_prices": {"o3": {"input": 1, "output": 5}}}
        (bench_files / "job.json").write_text(json.dumps({"method": {"reinforcement": {"grader": judge}}, "pinetune": own}))
        priced = call(bench_files, "test", "job.json", "--data", "rows.jsonl", "--rows", "1", "--repeats", "2", "--json")
        one = call(bench_files, "run", "judge.json", "--answer", "give 1", "--data", "rows.jsonl", "--row", "1")
    assert result.exit_code == 1
    bad = [finding["text"] for finding in body["findings"] if finding["level"] == "bad"]
    assert bad == ["talking to the judge (alone) scores 1.00 on average: an answer can ask for its grade and get it"]
    assert 0 < body["spread"]["largest"] <= 0.1 + 1e-9
    assert (body["cost"]["prompt_tokens"], body["cost"]["completion_tokens"]) == (100_000, 20_000)
    assert body["cost"]["dollars"] == pytest.approx(0.2)
    assert json.loads(priced.output)["cost"]["dollars"] == pytest.approx(0.2)
    assert "judge: reward 1 (" in one.output and "judged by o3 (120 tokens)" in one.output


def test_the_rubric_beside_a_judge_that_reads_its_blocks(bench_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int, body: dict[str, Any]) -> Sent:
        asked = body["messages"][1]["content"]
        reference = asked.split("<reference_answer>\n")[1].split("\n</reference_answer>")[0]
        student = asked.split("<student_answer>\n")[1].rsplit("\n</student_answer>", 1)[0]
        return says(verdict(1 if student.strip() == reference else 0.5 if "conclusion" in asked.split("<task>")[0] else 0))

    parts = {"rule": [0.75, "It states the rule."], "end": [0.25, "Its conclusion is right."]}
    with JudgeServer(answer) as server:
        monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", server.url)
        monkeypatch.setenv("PINETUNE_JUDGE_CACHE", "off")
        out = str(bench_files / "rubric.json")
        assert call(bench_files, "new", "rubric", "--set", f"parts={json.dumps(parts)}", "--out", out).exit_code == 0
        result = call(bench_files, "test", "rubric.json", "--data", "rows.jsonl", "--rows", "1", "--repeats", "2", "--json")
    body = json.loads(result.output)
    means = {probe["probe"]: probe["mean"] for probe in body["probes"]}
    assert result.exit_code == 0
    assert (means["reference"], means["other_row"], means["judge_talk"], means["empty"]) == (1.0, 0.125, 0.125, 0.125)
    assert (body["spread"]["mean"], body["spread"]["largest"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("test", "absent.json", "--data", "rows.jsonl"), GraderError, "absent.json: No such file or directory"),
        (("test", "broken.json", "--data", "rows.jsonl"), GraderError, "broken.json:2: not valid JSON"),
        (("test", "item.json", "--data", "rows.jsonl"), GraderError, "grader.type: is missing"),
        (("test", "eq.json", "--data", "absent.jsonl"), DataError, "absent.jsonl: no such file"),
        (("test", "eq.json", "--data", "faulty.jsonl"), DataError, "faulty.jsonl:1: messages: the list is empty"),
        (("test", "eq.json", "--data", "unanswered.jsonl"), DataError, "looks like the answer (tried reference_answer, answer,"),
        (("test", "eq.json", "--data", "rows.jsonl", "--answer-field", "gene"), DataError, "rows.jsonl:1: gene: no such field"),
        (("test", "eq.json", "--data", "rows.jsonl", "--labels", "absent.jsonl"), DataError, "absent.jsonl: no such file"),
        (("test", "eq.json", "--data", "rows.jsonl", "--labels", "no_label.jsonl"), DataError, "no_label.jsonl:1: label: missing; write"),
        (
            ("test", "eq.json", "--data", "rows.jsonl", "--answer-template", "{{ x }}"),
            GraderError,
            "--answer-template: {{ x }}: a variable",
        ),
        (("test", "eq.json", "--data", "rows.jsonl", "--price", "5"), UserError, "--price 5: write two numbers, as --price 2.50,10"),
        (("run", "eq.json", "--answer", "x", "--data", "rows.jsonl"), UserError, "give the dataset row with either --item FILE or both"),
        (("run", "eq.json", "--answer", "x", "--data", "rows.jsonl", "--row", "31"), DataError, "--row 31: the file has 30 rows"),
        (("new", "ranked-list-of-things"), GraderError, "unknown grader kind 'ranked-list-of-things'; did you mean ranked_list?"),
        (("new", "ranked_list", "--set", "decay"), UserError, "--set decay: write NAME=VALUE, as --set decay=0.5"),
        (("new", "ranked_list", "--out", "nowhere/x.json"), UserError, "--out nowhere/x.json: cannot be written (No such file"),
    ],
)
def test_bad_input_is_one_clear_line(bench_files: Path, arguments: tuple[str, ...], kind: type[Exception], said: str) -> None:
    result = call(bench_files, *arguments)
    assert isinstance(result.exception, kind)
    assert said in str(result.exception)


def test_every_fault_of_a_labels_file_is_told(bench_files: Path) -> None:
    result = call(bench_files, "test", "eq.json", "--data", "rows.jsonl", "--labels", "no_label.jsonl")
    assert isinstance(result.exception, DataError)
    assert [text.split(".jsonl:")[1] for text in result.exception.complaints] == [
        "1: label: missing; write the expert's judgement as a number from 0 (wrong) to 1 (right)",
        "2: label: 2 is outside 0..1; scale the labels to 0 (wrong) .. 1 (right)",
        "2: row: must be a row of the data file, 1 to 30, not 99",
        "3: answer: missing; write the answer that was judged, as the model gave it",
    ]
