"""`text_similarity`: how alike the answer and a reference are, from 0 to 1."""

from __future__ import annotations

import math
import time

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders.ask import Embed
from pinetune.graders.options import BuildOptions
from pinetune.graders.template import Template, scope_of
from pinetune.graders.text_metrics import METRICS, Metric, meteor_note
from pinetune.records import Completion, Grade, Row
from pinetune.wire.graders import TextSimilarity

EMBEDDING_MODEL = "text-embedding-3-large"  # what the hosted product's cosine uses; the service decides what stands in for it


class TextSimilarityGrader:
    """The measure between the rendered `input` and `reference`; see `text_metrics` for each one."""

    def __init__(self, name: str, definition: TextSimilarity, options: BuildOptions, metric: Metric, note: str) -> None:
        self.name = name
        self._input = Template.parse(definition.input, f"{options.path}.input")
        self._reference = Template.parse(definition.reference, f"{options.path}.reference")
        self._json_answers = options.json_answers
        self._metric = metric
        self._note = note

    def grade(self, completion: Completion, row: Row) -> Grade:
        start = time.perf_counter()
        try:
            scope = scope_of(completion, row, json_answers=self._json_answers)
            value = self._metric(self._input.render(scope), self._reference.render(scope))
        except GradingFailed as failure:
            return Grade("error", explanation=str(failure), error_kind=failure.kind, seconds=time.perf_counter() - start)
        return Grade("ok", value, explanation=self._note, seconds=time.perf_counter() - start)

    def close(self) -> None:
        """Nothing is held."""


def build(definition: TextSimilarity, options: BuildOptions) -> TextSimilarityGrader:
    name = definition.name or options.default_name
    measure = definition.evaluation_metric
    metric = cosine(options) if measure == "cosine" else METRICS[measure]()
    return TextSimilarityGrader(name, definition, options, metric, meteor_note() if measure == "meteor" else "")


def cosine(options: BuildOptions) -> Metric:
    """The cosine between the two texts' embeddings; below zero counts as 0, an empty text is like nothing but itself."""
    embed = options.services.embed
    if embed is None:
        raise GraderError(
            f"{options.path}.evaluation_metric: cosine needs text embeddings and none are configured; set PINETUNE_JUDGE_BASE_URL "
            f"and PINETUNE_JUDGE_API_KEY (an OpenAI-compatible API), or let a local embedding model stand in: PINETUNE_MODEL_ALIASES="
            f'\'{{"{EMBEDDING_MODEL}": "local:FOLDER"}}\'; or choose another measure, such as fuzzy_match'
        )

    def measure(answer: str, reference: str) -> float:
        if not answer.strip() or not reference.strip():
            return float(answer.strip() == reference.strip())
        return _cosine(embed, answer, reference)

    return measure


def _cosine(embed: Embed, answer: str, reference: str) -> float:
    vectors = embed((answer, reference), EMBEDDING_MODEL)
    if len(vectors) != 2 or len(vectors[0]) != len(vectors[1]):
        raise GradingFailed("other_error", f"the embedding service gave no two vectors of one length, but {[len(v) for v in vectors]}")
    first, second = vectors
    norm = math.hypot(*first) * math.hypot(*second)
    value = sum(a * b for a, b in zip(first, second, strict=True)) / norm if norm else math.nan
    if not math.isfinite(value):
        raise GradingFailed("other_error", "the embedding service gave a vector of length zero, or numbers that are not finite")
    return min(1.0, max(0.0, value))
