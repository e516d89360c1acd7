"""Grades per second of each grader type that needs no sandbox and no judge, on one core, templates included.

Run: python benchmarks/grader_types.py [--rounds 7]. Prints one markdown table; each figure is the median over the rounds. Each
grade is of another row and answer, as in a job; `1,000 rollouts` is what the grading of such a step costs in all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from pinetune.graders.build import build_grader
from pinetune.records import Completion, Grader, Row

ROLLOUTS = 1_000
TEXT, ANSWER = "{{ sample.output_text }}", "{{ item.answer }}"
SENTENCE = "tuberous sclerosis is most often caused by a variant of the gene which makes tuberin in this patient"


def check(field: str, operation: str = "eq") -> dict[str, Any]:
    shown = f"{{{{ sample.output_json.{field} }}}}"
    return {"type": "string_check", "input": shown, "reference": f"{{{{ item.{field} }}}}", "operation": operation}


def similarity(metric: str) -> dict[str, Any]:
    return {"type": "text_similarity", "input": TEXT, "reference": ANSWER, "evaluation_metric": metric}


MULTI = {
    "type": "multi",
    "graders": {"gene": check("gene"), "code": check("code", "ilike"), "text": similarity("fuzzy_match"), "first": check("list[0]")},
    "calculate_output": "0.4 * gene + 0.3 * code + 0.2 * text + 0.1 * min(first, 1)",
}
CASES: dict[str, dict[str, Any]] = {
    "string_check, text": {"type": "string_check", "input": TEXT, "reference": ANSWER, "operation": "ilike"},
    "string_check, a field of a JSON answer": check("gene"),
    **{f"text_similarity, {metric}": similarity(metric) for metric in ("fuzzy_match", "rouge_1", "rouge_l", "bleu", "gleu", "meteor")},
    "multi of 4 cheap parts": MULTI,
}


def rollouts() -> list[tuple[Completion, Row]]:
    """1,000 different answers of about 200 characters, JSON objects, each with its row."""
    found, words = [], SENTENCE.split()
    for i in range(ROLLOUTS):
        text = " ".join([*words[i % 7 :], f"case {i}"])
        answer = json.dumps({"gene": f"GENE{i % 3}", "code": f"q{i % 90}.1", "list": [f"a{i}", "b"], "explanation": text})
        item = {"gene": f"GENE{i % 2}", "code": f"Q{i % 90}.1", "list": [f"a{i}"], "answer": json.dumps({"explanation": SENTENCE})}
        found.append((Completion((), (), (), "stop", answer), Row(i, (), item)))
    return found


def seconds(grader: Grader, pairs: list[tuple[Completion, Row]]) -> float:
    start = time.perf_counter()
    for completion, row in pairs:
        if grader.grade(completion, row).status != "ok":
            raise SystemExit(f"{grader.name} could not grade")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    pairs = rollouts()
    print("| grader | grades/s | us a grade | 1,000 rollouts, ms |\n|---|---|---|---|")
    for name, definition in CASES.items():
        grader = build_grader(definition, json_answers=True)
        seconds(grader, pairs[:50])  # imports and caches
        took = statistics.median(seconds(grader, pairs) for _ in range(rounds))
        print(f"| {name} | {ROLLOUTS / took:,.0f} | {took / ROLLOUTS * 1e6:.1f} | {took * 1e3:.1f} |", flush=True)


if __name__ == "__main__":
    main()
