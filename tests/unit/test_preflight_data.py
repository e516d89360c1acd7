"""The data part: every planted fault found on its very lines, nothing said where there is nothing."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pinetune.cli.main import app
from pinetune.data.compact import read_compact
from pinetune.data.rows import load_rows
from pinetune.demo.grader import gene_grader_definition
from pinetune.preflight.data import check_data, check_lengths
from pinetune.preflight.report import Finding, Part, PreflightReport
from pinetune.preflight.similar import near_duplicates
from pinetune.preflight.text import as_text
from pinetune.records import Row

RARE = Path(__file__).parents[3] / "shared" / "data" / "rare"
WORDS = [f"{a}{b}{c}" for a, b, c in itertools.product("bdfgklmnprst", "aeiou", "bdglmnrst")]


def prompt(number: int, length: int = 20) -> str:
    """An instruction all rows share, and findings of their own."""
    rng = random.Random(number)
    return f"Read the case and name the gene. Findings: {', '.join(rng.choice(WORDS) for _ in range(length))}."


def rows_of(*pairs: tuple[str, Any]) -> list[Row]:
    """(prompt, answer); the line is the place in the list."""
    rows = []
    for i, (text, answer) in enumerate(pairs):
        messages = ({"role": "user", "content": text},)
        rows.append(Row(i, messages, {"messages": list(messages), "answer": answer}, line=i + 1))
    return rows


def check(train: list[Row], valid: list[Row] | None = None, **options: Any) -> Part:
    files = {"train.jsonl": train, **({"valid.jsonl": valid} if valid is not None else {})}
    held_out = ["valid.jsonl"] if valid is not None else []
    return check_data(files, None, options.get("allowed", False), "train.jsonl", held_out)


def kinds(part: Part) -> dict[str, str]:
    return {finding.kind: finding.verdict for finding in part.findings}


CLEAN = rows_of(*((prompt(i), f"G{i // 2}") for i in range(100)))
HELD = rows_of(*((prompt(1000 + i), f"H{i}") for i in range(20)))


def test_clean_data_is_ok_and_has_its_figures() -> None:
    part = check(CLEAN, HELD)
    assert kinds(part) == {"disjoint_answers": "ok", "skew": "ok", "smallest_gain": "ok"}
    assert part.verdict == "ok"
    assert part.figures["files"]["train.jsonl"] == {
        "rows": 100, "answers": 50, "effective_answers": pytest.approx(50.0), "commonest": "G0", "commonest_rows": 2,
    }  # fmt: skip


def test_duplicates_are_found_by_line_whatever_their_case_and_white_space() -> None:
    twice = rows_of(*((prompt(i), "x") for i in range(90)), (prompt(3).upper() + "\n", "x"), (prompt(3), "x"), (prompt(7), "x"))
    found = check(twice).finding("duplicates")
    assert found is not None and found.verdict == "look"
    assert [(pair.line, pair.other_line) for pair in found.pairs] == [(91, 4), (92, 4), (93, 8)]
    assert found.text.startswith("3 rows have a prompt")


def test_same_prompt_with_another_answer_is_ambiguous() -> None:
    part = check(rows_of(*((prompt(i), f"G{i}") for i in range(99)), (prompt(5), "other"), (prompt(6), " g6 ")))
    found = part.finding("ambiguous")
    assert found is not None
    assert [(pair.line, pair.other_line, pair.what) for pair in found.pairs] == [(100, 6, "G5 / other")]


def test_near_duplicates_within_and_across_files() -> None:
    near = prompt(5).replace("Findings: ", "Findings: surprisingly ")
    part = check([*CLEAN[:99], *rows_of((near, "Z"))], [*HELD[:19], *rows_of((prompt(8).replace("case", "report"), "Y"))])
    within, across = part.finding("near_duplicates"), part.finding("near_shared_prompts")
    assert within is not None and across is not None
    assert [(pair.other_line) for pair in within.pairs] == [6]
    assert [(pair.file, pair.other_file, pair.other_line) for pair in across.pairs] == [("valid.jsonl", "train.jsonl", 9)]


def test_a_leaked_row_and_a_shared_answer_stop_unless_allowed() -> None:
    valid = [*HELD[:18], Row(18, CLEAN[4].messages, CLEAN[4].item, line=19), *rows_of((prompt(2000), "G30"))]
    part = check(CLEAN, valid)
    assert {kind: verdict for kind, verdict in kinds(part).items() if verdict != "ok"} == {
        "leaked_rows": "stop", "shared_answers": "stop", "shared_prompts": "look",
    }  # fmt: skip
    leaked, shared = part.finding("leaked_rows"), part.finding("shared_answers")
    assert leaked is not None and [(p.line, p.other_line) for p in leaked.pairs] == [(19, 5)]
    assert shared is not None and [(p.line, p.other_line, p.what) for p in shared.pairs] == [(19, 5, "G2"), (1, 61, "G30")]
    assert kinds(check(CLEAN, [*HELD, *rows_of((prompt(2000), "G30"))], allowed=True))["shared_answers"] == "ok"


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([f"g{i % 20}" for i in range(100)], "ok"),
        (["yes"] * 70 + ["no"] * 30, "ok"),
        (["yes"] * 90 + ["no"] * 10, "look"),
        (["one"] * 100, "look"),
        (["a"] * 60 + [f"g{i}" for i in range(40)], "look"),
    ],
)
def test_skew(answers: list[str], verdict: str) -> None:
    found = check(rows_of(*((prompt(i), answer) for i, answer in enumerate(answers)))).finding("skew")
    assert found is not None and found.verdict == verdict


def test_few_rows_few_answers_and_nothing_held_out_are_said() -> None:
    part = check(CLEAN[:12])
    assert kinds(part) == {"skew": "ok", "nothing_held_out": "look", "few_rows": "look"}
    few = check(CLEAN, rows_of(*((prompt(3000 + i), f"H{i % 4}") for i in range(40)))).finding("smallest_gain")
    assert few is not None and few.verdict == "look" and "40 rows with 4 different answers" in few.text


def test_rows_without_an_answer_are_compared_by_text_only() -> None:
    rows = [Row(i, ({"role": "user", "content": prompt(i)},), {"note": i}, line=i + 1) for i in range(120)]
    held = [Row(0, rows[3].messages, {"note": 0}, line=1)]
    part = check_data({"t": rows, "v": held}, None, False, "t", ["v"])
    assert kinds(part) == {"leaked_rows": "stop", "shared_prompts": "look", "no_answer_field": "look", "smallest_gain": "look"}


def test_prompts_that_do_not_fit_are_named() -> None:
    findings, figures = check_lengths({"t": [(1, 10), (2, 90), (5, 101)], "v": [(1, 100)]}, 100)
    assert [(f.kind, f.verdict, f.lines) for f in findings] == [("too_long", "stop", (("t", 5),))]
    assert figures == {"prompt_tokens_median": 95, "prompt_tokens_max": 101, "prompt_tokens_limit": 100}


def test_similarity_by_hand() -> None:
    # of four texts: a in 3, b in 2, "a b" in 2, the others in 1; weights log(5/3), log(5/2), log(5/2), log(5)
    found = near_duplicates(["a b", "a b c", "a", "x"], 0.3)
    from math import log

    shared = log(5 / 3) + 2 * log(5 / 2)
    assert found == [(0, 1, pytest.approx(shared / (shared + 2 * log(5))))]


def test_prefix_filtering_misses_no_pair() -> None:
    rng = random.Random(4)
    texts = [" ".join(rng.choice("abcdefgh") for _ in range(rng.randint(0, 7))) for _ in range(120)]
    every = near_duplicates(texts, 1e-9)
    for threshold in (0.3, 0.5, 0.8, 1.0):
        assert near_duplicates(texts, threshold) == [pair for pair in every if pair[2] >= threshold]


def test_many_lines_of_a_file_are_one_line_of_the_report() -> None:
    lines = tuple(("t", 3 * n) for n in range(1, 24))
    text = as_text(
        PreflightReport((Part("data", (Finding("stop", "too_long", "too long", lines=(*lines, ("v", 7), ("w", 1), ("w", 4))),)),))
    )
    listed = ", ".join(str(3 * n) for n in range(1, 21))
    assert f"          t: lines {listed} and 3 more (all of them with --json)\n          v: line 7\n          w: lines 1 and 4\n" in text


def test_the_report_is_text_and_json() -> None:
    part = check(rows_of(*((prompt(i), "x") for i in range(99)), (prompt(3), "y")))
    report = PreflightReport((part, Part("grader", (Finding("ok", "sharp", "nothing suspicious"),))))
    text = as_text(report)
    assert "data: look" in text and "grader: ok" in text and "train.jsonl:100 and train.jsonl:4" in text
    assert text.endswith("verdict: look (the job can run; read the lines marked LOOK first)")
    data = json.loads(json.dumps(report.as_json()))
    assert (data["verdict"], data["parts"][0]["name"], data["parts"][0]["verdict"]) == ("look", "data", "look")
    duplicate = next(f for f in data["parts"][0]["findings"] if f["kind"] == "duplicates")
    assert duplicate["pairs"][0] | {"what": ""} == {
        "file": "train.jsonl", "line": 100, "other_file": "train.jsonl", "other_line": 4, "alike": 1.0, "what": "",
    }  # fmt: skip


def rare_rows(folder: Path, name: str) -> Path:
    source = next(RARE.glob(f"{name}*"), None)
    if source is None:
        pytest.skip("../shared/data/rare is not there")
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in read_compact(source).items), encoding="utf-8")
    return path


def changed(item: dict[str, Any], number: int) -> dict[str, Any]:
    """A near-duplicate: one of five slips that copies of cases have."""
    text = item["messages"][-1]["content"]
    body, rest = text.split("\n\n", 1)
    sentences = re.split(r"(?<=\.) ", body)
    slips = [
        f"{body} The parents were healthy.\n\n{rest}",
        f"{' '.join(sentences[::-1])}\n\n{rest}",
        text.replace(" and ", " plus ", 1) if " and " in text else text.replace("patient", "proband", 1) + " Thank you.",
        f"Case {number}: {text}",
        f"{text} Take your time, and think of rare causes too.",
    ]
    return {**item, "messages": [*item["messages"][:-1], {"role": "user", "content": slips[number % 5]}]}


def rare_job(folder: Path, train: list[dict[str, Any]], valid: list[dict[str, Any]]) -> Path:
    """A job file beside its two data files, the second one compressed, with the demo's grader and model."""
    (folder / "train.jsonl").write_text("".join(json.dumps(item) + "\n" for item in train), encoding="utf-8")
    with gzip.open(folder / "valid.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in valid)
    body = {
        "model": "pinetune-mini", "training_file": "train.jsonl", "validation_file": "valid.jsonl.gz", "seed": 1,
        "method": {"type": "reinforcement", "reinforcement": {"grader": gene_grader_definition()}},
        "pinetune": {"max_tokens": 128, "steps": 50, "threads": 1, "unsafe_python_graders": True},
    }  # fmt: skip
    path = folder / "job.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def found_by_check(job: Path, *options: str) -> dict[str, Any]:
    """What `pinetune check` says to programs: part -> kind -> finding."""
    result = CliRunner().invoke(app, ["check", str(job), "--json", *options], catch_exceptions=False)
    assert result.exit_code == 0
    parts = json.loads(result.stdout)["parts"]
    return {part["name"]: {**part, "findings": {finding["kind"]: finding for finding in part["findings"]}} for part in parts}


def items_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [dict(row.item) for row in load_rows(rare_rows(folder, name))]


@pytest.mark.slow
def test_the_real_split_is_skewed_little_has_disjoint_genes_and_nothing_for_the_miniature_to_learn_from(tmp_path: Path) -> None:
    """1,100 and 200 published cases; a model that knows 176 genes and none of this language is never paid."""
    job = rare_job(tmp_path, items_of(tmp_path, "demo_train"), items_of(tmp_path, "demo_valid"))
    found = found_by_check(job, "--rows", "4", "--samples", "2")
    data, learnability = found["data"], found["learnability"]
    assert data["findings"]["disjoint_answers"]["verdict"] == "ok"
    assert data["findings"]["skew"]["verdict"] == "ok"
    assert "1,100 rows, 279 different answers, as diverse as 257.5 equally frequent ones" in data["findings"]["skew"]["text"]
    assert "a gain must be 13 points or more to show" in data["findings"]["smallest_gain"]["text"]
    assert data["findings"]["too_long"]["verdict"] == "stop"
    assert (found["grader"]["verdict"], learnability["verdict"]) == ("ok", "stop")
    assert learnability["findings"]["no_signal"]["verdict"] == "stop"


@pytest.mark.slow
def test_on_published_cases_all_planted_overlaps_and_near_duplicates_are_found(tmp_path: Path) -> None:
    """20 held-out rows get a gene of training, 15 training rows a copy with a slip: `pinetune check` names all of them, and no other."""
    train, valid = items_of(tmp_path, "demo_train"), items_of(tmp_path, "demo_valid")
    near_kinds = ("near_duplicates", "near_shared_prompts")
    clean = found_by_check(rare_job(tmp_path, train, valid), "--no-model")["data"]
    assert clean["verdict"] == "look" and "shared_answers" not in clean["findings"]
    before = {(p["file"], p["line"]) for kind in near_kinds if (f := clean["findings"].get(kind)) for p in f["pairs"]}
    assert before == {("train.jsonl", line) for line in (464, 716, 768, 1073)}  # look-alikes: siblings, and one finding more

    rng = random.Random(5)
    overlapping = sorted(rng.sample(range(len(valid)), 20))
    for i in overlapping:
        valid[i]["reference_answer"] = rng.choice(train)["reference_answer"]
    copied = rng.sample(range(len(train)), 15)
    copies = [changed(train[i], n) for n, i in enumerate(copied)]

    planted = found_by_check(rare_job(tmp_path, [*train, *copies], valid), "--no-model")["data"]
    shared, near = planted["findings"]["shared_answers"], planted["findings"]["near_duplicates"]
    assert (planted["verdict"], shared["verdict"], near["verdict"]) == ("stop", "stop", "look")
    assert [pair["line"] for pair in shared["pairs"]] == [i + 1 for i in overlapping]
    assert all(train[pair["other_line"] - 1]["reference_answer"] == pair["what"] for pair in shared["pairs"])
    new = {pair["line"]: pair["other_line"] for pair in near["pairs"] if (pair["file"], pair["line"]) not in before}
    assert new == {1101 + n: i + 1 for n, i in enumerate(copied)}


@pytest.mark.slow
def test_the_uncapped_pool_is_skewed(tmp_path: Path) -> None:
    found = check_data({"pool": load_rows(rare_rows(tmp_path, "dev_pool"))}, None, False, "pool", []).finding("skew")
    assert found is not None and found.verdict == "look"
    assert "4,333 rows, 321 different answers" in found.text and "(STXBP1) has 422 rows" in found.text
