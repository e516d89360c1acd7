"""`label_model`: a judge picks one of `labels`; 1.0 where it is among `passing_labels`, else 0.0."""

from __future__ import annotations

from typing import Any

from pinetune.errors import GraderError
from pinetune.graders.ask import AskReply
from pinetune.graders.judge import JudgeGrader
from pinetune.graders.judge_reply import unreadable, verdict_schema
from pinetune.graders.options import BuildOptions
from pinetune.wire.graders import LabelModel

SCHEMA_NAME = "label_classification"


def build(definition: LabelModel, options: BuildOptions) -> JudgeGrader:
    labels = definition.labels
    if len(set(labels)) < len(labels):
        raise GraderError(f"{options.path}.labels: a label stands there twice; remove one")
    unknown = [label for label in definition.passing_labels if label not in labels]
    if unknown:
        raise GraderError(f"{options.path}.passing_labels: {unknown[0]!r} is none of the labels {', '.join(labels)}")
    passing = set(definition.passing_labels)

    def valued(given: Any, reply: AskReply) -> tuple[float, str]:
        label = _label(given, labels)
        if label is None:
            raise unreadable(f"the judge's result is none of the labels {', '.join(labels)}.", reply)
        return float(label in passing), f"label: {label}"

    return JudgeGrader(definition, options, SCHEMA_NAME, verdict_schema({"type": "string", "enum": labels}), valued)


def _label(given: Any, labels: list[str]) -> str | None:
    """The label that was meant; letter case and outer white space decide nothing unless labels differ by them alone."""
    if given in labels:
        return str(given)
    said = str(given).strip().casefold()
    near = [label for label in labels if label.strip().casefold() == said]
    return near[0] if len(near) == 1 else None
