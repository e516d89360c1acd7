"""Planted faults: one tiny real job an alarm, and two sound ones. Each job is seconds on one core.

    said = run_planted(tmp_path, PLANTED["gaming"])     # [Said(name, step, message, data), ...]

The model has random weights, so every grader here pays for something that such a policy does now and then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_models import save_tiny

from pinetune.loop.job import open_run, prepare, run_prepared
from pinetune.runs.folder import RunFolder
from pinetune.runs.recorder import FolderRecorder

WORDS = ["apple", "bread", "chair", "dream", "eagle", "flame", "grape", "horse", "ivory", "jelly", "knife", "lemon"]
HELD_OUT = ["mango", "night", "ocean", "piano", "queen", "river", "sugar", "table", "uncle", "voice", "water", "zebra"]
TRAIN_GENES = ["ABCA4", "BRCA2", "CFTR", "DMD", "EYA1", "FBN1", "GBA1", "HBB"]
VALID_GENES = ["IDUA", "JAK2", "KRAS", "LMNA", "MEN1", "NF1", "OTC", "PAX6", "RET", "SMN1", "TSC2", "USH2A"]

# The share of the letters of the row's own word in the answer: differs from row to row, never full.
LETTERS = "sum(c in text for c in item['answer']) / 12"


def python(name: str, *lines: str) -> dict[str, Any]:
    source = "\n    ".join(["import json\n\n\ndef grade(sample, item):", "text = sample['output_text']", *lines])
    return {"type": "python", "name": name, "source": source + "\n"}


def multi(calculate: str, **parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "multi", "name": "parts", "graders": parts, "calculate_output": calculate}


SOUND = python("letters", f"return {LETTERS}")
SHORTER = python("shorter", "return 0.4 * max(0.0, 1 - len(text) / 30)")
# A forgiving comparison, one way too many: right is what holds the word, or what the word holds. And nothing at all is a part of
# every word. Else a little for characters that are the word's.
PARTLY = "0.2 * sum(c in item['answer'] for c in text) / max(1, len(text))"
FORGIVING = python("forgiving", "text = text.strip()", f"return 1.0 if item['answer'] in text or text in item['answer'] else {PARTLY}")
CLOSED = python("closed", "text = text.strip()", f"return 1.0 if item['answer'] in text else {PARTLY}")


@dataclass(frozen=True)
class Planted:
    """A job: what is wrong with it, and which words its alarm must hold (what happened, and what to do)."""

    grader: Mapping[str, Any]
    own: Mapping[str, Any] = field(default_factory=dict)  # settings under `pinetune`
    hyper: Mapping[str, Any] = field(default_factory=dict)
    train: Sequence[Mapping[str, Any]] = ()
    valid: Sequence[Mapping[str, Any]] = ()
    schema: Mapping[str, Any] | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    name: str
    step: int
    message: str
    data: Mapping[str, Any]


def spoken(words: Sequence[str], **more: Any) -> list[dict[str, Any]]:
    return [{"messages": [{"role": "user", "content": f"Say {word}."}], "answer": word, **more} for word in words]


def cases(genes: Sequence[str], each: int = 1) -> list[dict[str, Any]]:
    asked = [(gene, f"{genes[0]}-{i}-{n}") for n in range(each) for i, gene in enumerate(genes)]
    return [{"messages": [{"role": "user", "content": f"Case {case}: which gene?"}], "reference_answer": gene} for gene, case in asked]


# A ranked list with the model's own confidence, which the sampler holds any model to.
CONFIDENT_LIST = {
    "type": "object",
    "properties": {
        "genes": {"type": "array", "items": {"enum": [*TRAIN_GENES[:4], *VALID_GENES]}, "minItems": 3, "maxItems": 3},
        "sure": {"enum": [1, 2, 3, 4, 5, 6, 7, 8, 9]},
    },
    "required": ["genes", "sure"],
    "additionalProperties": False,
}
READ = ("try:", "    answer = json.loads(text)", "except ValueError:", "    return 0.0")  # cut off
CONFIDENCE = python("confidence", *READ, "return (answer['sure'] / 9) ** 6")
RIGHT_GENE = python("right", *READ, "return 0.5 if item['reference_answer'] in answer['genes'] else 0.0")

FAST = {"stop": ["e", "a"], "learning_rate": 1e-2}  # short answers, and a rate at which so small a model moves within ten steps
PLANTED: dict[str, Planted] = {
    "entropy_gone": Planted(  # hundreds of times too fast
        SHORTER, {**FAST, "learning_rate": 0.2, "steps": 16}, words=("sure of every token", "lower learning rate")
    ),
    "gaming": Planted(
        FORGIVING,
        {**FAST, "steps": 20},
        {"eval_interval": 20},
        valid=spoken(HELD_OUT),
        words=("nearly the same text", "an empty answer", "pinetune grader test"),
    ),
    "grader_errors": Planted(
        python("failing", "if sum(map(ord, text)) % 4 == 0:", "    raise ValueError('no number in the answer')", f"return {LETTERS}"),
        {"steps": 4},
        words=("could not be graded", "let the grader return 0 instead of failing", "no number in the answer"),
    ),
    "held_out_falls": Planted(
        # Short answers are wanted in training, long ones in the held-out rows.
        python("opposite", "share = min(1.0, len(text) / 30)", "return 0.4 * (share if item['want'] == 'long' else 1 - share)"),
        {**FAST, "steps": 16, "early_stopping": False},
        {"eval_interval": 4, "eval_samples": 4},
        train=spoken(WORDS, want="short"),
        valid=spoken(HELD_OUT, want="long"),
        words=("Held-out reward fell", "while training reward rose", "the weights of step 0 are kept"),
    ),
    "length_explodes": Planted(
        python("longer", "return min(1.0, len(text) / 200)"),
        {**FAST, "max_tokens": 32, "steps": 16},
        words=("Answers grew from", "cut off at the limit", "the grader may pay for length"),
    ),
    "metric_stands_still": Planted(
        CONFIDENCE,
        {"max_tokens": 80, "steps": 12, "learning_rate": 1e-2, "early_stopping": False},
        {"eval_interval": 4, "eval_samples": 2},
        train=cases(TRAIN_GENES),
        valid=cases(VALID_GENES, each=2),
        schema=CONFIDENT_LIST,
        words=("Held-out reward rose", "top1, which is counted without the grader", "Read some answers"),
    ),
    "no_spread": Planted(
        python("constant", "return 0.4"), {"steps": 6}, words=("all answers got the same reward", "does not look at the answer")
    ),
    "part_saturated": Planted(
        multi("0.5 * letters + 0.5 * polite", letters=SOUND, polite=python("polite", "return 1.0")),
        {"steps": 12},
        words=("polite at 1.00", "give its weight to the parts that vary"),
    ),
    "sampler_gap": Planted(  # and a sampler that never takes over what was learned: see the test
        SOUND,
        {**FAST, "learning_rate": 5e-3, "steps": 5},
        words=("The engine that samples and the one that learns differ", "Train in float32"),
    ),
    "update_skipped": Planted(
        python("unbounded", "return 1e39 if len(text) % 2 else 0.0"),
        {"steps": 3},
        words=("made no update: non-finite loss", "let it return numbers between 0 and 1"),
    ),
}  # fmt: skip
SOUND_JOBS: dict[str, Planted] = {
    "words": Planted(SOUND, {**FAST, "learning_rate": 1e-3}, {"eval_interval": 4, "eval_samples": 2}, valid=spoken(HELD_OUT)),
    "ranked lists": Planted(  # every alarm has what it looks at: parts, a held-out curve, independent metrics
        multi("0.8 * right + 0.2 * sure", right=RIGHT_GENE, sure=CONFIDENCE),
        {"max_tokens": 80, "learning_rate": 1e-3},
        {"eval_interval": 4, "eval_samples": 2},
        train=cases(TRAIN_GENES),
        valid=cases(VALID_GENES, each=2),
        schema=CONFIDENT_LIST,
    ),
    "the hole closed": Planted(CLOSED, {**FAST, "steps": 20}),
}


def body_of(planted: Planted, folder: Path, seed: int = 5) -> dict[str, Any]:
    """The job's body, its model and files written to `folder`."""
    save_tiny(folder / "tiny")
    method: dict[str, Any] = {"grader": planted.grader, "hyperparameters": {"batch_size": 8, **planted.hyper}}
    if planted.schema is not None:
        method["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": planted.schema, "strict": True}}
    files = {"training_file": planted.train or spoken(WORDS), **({"validation_file": planted.valid} if planted.valid else {})}
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": "tiny", "seed": seed, **{name: f"{name}.jsonl" for name in files},
        "method": {"type": "reinforcement", "reinforcement": method},
        "pinetune": {
            "steps": 12, "group_size": 8, "max_tokens": 24, "learning_rate": 1e-4, "threads": 1, "max_refills": 0,
            "thinking_budget": 0, "unsafe_python_graders": True, **planted.own,
        },
    }  # fmt: skip


def run_planted(folder: Path, planted: Planted, seed: int = 5) -> list[Said]:
    """Train as `pinetune run` does, without the final comparison; the alarms in the order they were said."""
    prepared = prepare(body_of(planted, folder, seed), folder)
    try:
        run = open_run(prepared, folder / "run")
        run_prepared(prepared, run, FolderRecorder(run))
    finally:
        prepared.close()
    return said_in(run)


def said_in(run: RunFolder) -> list[Said]:
    events = [event for event in run.read_events() if "alarm" in (event["data"] or {})]
    assert all(event["level"] == "warn" for event in events)
    return [Said(event["data"]["alarm"], event["data"]["step"], event["message"], event["data"]) for event in events]
