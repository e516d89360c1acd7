"""The bench's verdict on gallery graders, on real rows: gene ranking, slot extraction, ICD-10 coding, GSM8K, SVAMP programs.

    python benchmarks/grader_gallery.py [--rows 40] [--report]

The rows come from ../shared/data beside the repository; a set that is absent is left out and named. Latency includes
the sandbox.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pinetune.bench.options import BenchOptions
from pinetune.bench.report import BenchReport
from pinetune.bench.run import bench
from pinetune.bench.text import as_text, table
from pinetune.data.compact import to_item
from pinetune.graders.build import build_grader
from pinetune.graders.gallery.kinds import new_grader
from pinetune.records import Row

DATA = Path(__file__).parents[2] / "shared" / "data"
Item = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A gallery grader on one data set; `item` makes the RFT row of a raw one."""

    kind: str
    file: str
    item: Callable[[Item], Item | None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None


def asked(prompt: str, answer: Any, **more: Any) -> Item:
    return {"messages": [{"role": "user", "content": prompt}], "reference_answer": answer} | more


def tested(raw: Item) -> Item:
    """A program and what it must return, as a coding task with one test."""
    return asked(raw["question"], raw["program"], tests=f"assert abs(solution() - {float(raw['answer'])}) < 1e-3")


def quoted(question: str) -> Item | None:
    """Cite the longest sentence of a text of at least three."""
    sentences = re.split(r"(?<=[.?!]) +", question)
    return asked(f"Quote the longest sentence: {question}", max(sentences, key=len), source=question) if len(sentences) > 2 else None


CASES = {
    "genes": Case("ranked_list", "rare/demo_valid", lambda raw: to_item(raw, Counter()), {"list_field": "genes"}),
    "SNIPS slots": Case("json_fields_f1", "extract/snips_valid", lambda raw: asked(raw["text"], raw["answer"])),
    "ICD-10": Case("code_part_marks", "icd10/coding_valid", lambda raw: asked(raw["text"], raw["code"])),
    "GSM8K": Case("final_answer", "math/gsm8k_test", lambda raw: asked(raw["question"], raw["answer"])),
    "GSM8K number": Case("numeric_tolerance", "math/gsm8k_test", lambda raw: asked(raw["question"], raw["answer"])),
    "SVAMP programs": Case(
        "program_answer",
        "math/svamp_train",
        lambda raw: asked(raw["question"], raw["answer"], program=raw["program"]) if raw.get("program") else None,
        template="{{ item.program }}",
    ),
    "SVAMP as unit tests": Case("unit_tests", "math/svamp_train", lambda raw: tested(raw) if raw.get("program") else None),
    "SNIPS as pairs": Case("name_value_f1", "extract/snips_valid", lambda raw: asked(raw["text"], raw["answer"]["slots"])),
    "GSM8K longest sentence": Case("quote_in_source", "math/gsm8k_test", lambda raw: quoted(raw["question"])),
}


def rows_of(case: Case) -> Iterator[Row]:
    with gzip.open(DATA / f"{case.file}.jsonl.gz", "rt", encoding="utf-8") as lines:
        index = 0
        for line, text in enumerate(lines, 1):
            item = case.item(json.loads(text))
            if item is not None:
                yield Row(index, tuple(item["messages"]), item, (), line)
                index += 1


def run(case: Case, num_rows: int) -> BenchReport:
    definition = new_grader(case.kind, case.settings)
    grader = build_grader(definition, json_answers=True)
    try:
        options = BenchOptions(num_rows=num_rows, definition=definition, answer_template=case.template)
        return bench(grader, list(rows_of(case)), options, file=case.file)
    finally:
        grader.close()


def line(name: str, case: Case, report: BenchReport) -> list[str]:
    def mean(probe: str) -> str:
        found = [result.mean for result in report.probes if result.probe == probe and result.mean is not None]
        return f"{found[0]:.2f}" if found else "-"

    shown = ("reference", "other_case", "other_layout", "over_long", "broken_json", "other_row", "commonest", "list_everything", "empty")
    talk = max(result.mean or 0.0 for result in report.probes if result.probe in ("prompt_echo", "padding", "judge_talk", "python_talk"))
    passed = "passed" if report.passed() else "FAILED"
    return [name, case.kind, *map(mean, shown), f"{talk:.2f}", f"{report.cost.median * 1000:.1f}", passed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--only", choices=[*CASES], help="one data set")
    parser.add_argument("--report", action="store_true", help="also print each bench report in full")
    arguments = parser.parse_args()
    lines = []
    for name, case in CASES.items():
        if arguments.only not in (None, name):
            continue
        if not (DATA / f"{case.file}.jsonl.gz").is_file():
            print(f"{name}: skipped, {DATA / case.file}.jsonl.gz is absent")
            continue
        report = run(case, arguments.rows)
        lines.append(line(name, case, report))
        if arguments.report:
            print(as_text(report), end="\n\n")
    head = ["data", "kind", "right", "case", "layout", "long", "cut", "wrong", "common", "list", "empty", "talk", "ms", "verdict"]
    print(table(head, lines))


if __name__ == "__main__":
    main()
