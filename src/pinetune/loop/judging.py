"""A job's judges: its `judge_*` settings over the environment's, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pinetune.judges.local import Embedder, LocalModel
from pinetune.judges.service import JudgeService
from pinetune.judges.settings import JudgeSettings, Price
from pinetune.models.names import find_model
from pinetune.wire.fine_tuning import PinetuneOptions

JUDGE_TYPES = ("score_model", "label_model")


def judge_service(own: PinetuneOptions, beside: Path | None = None) -> JudgeService:
    """Costs nothing until a grader asks. Local models are looked for beside the job file first. Raises UserError."""
    settings = JudgeSettings.read(
        base_url=own.judge_base_url,
        aliases=own.judge_aliases,
        concurrency=own.judge_concurrency,
        timeout=own.judge_timeout,
        retries=own.judge_retries,
        budget_tokens=own.judge_budget_tokens,
        budget_usd=own.judge_budget_usd,
        prices={model: Price(**price.model_dump()) for model, price in own.judge_prices.items()},
    )

    def open_model(name: str) -> LocalModel:
        from pinetune.loop.local_judge import LocalJudge

        return LocalJudge(find_model(settings.place_of(name), beside))

    def open_embedder(name: str) -> Embedder:
        from pinetune.models.embed import LocalEmbedder

        return LocalEmbedder(find_model(settings.place_of(name), beside))

    return JudgeService(settings, open_model, open_embedder)


def judges_of(definition: Mapping[str, Any]) -> dict[str, str]:
    """The judges a (valid) grader asks: the name it says -> the path of that name in the definition.

    >>> judges_of({"type": "multi", "graders": {"a": {"type": "score_model", "model": "o3"}, "b": {"type": "python"}}})
    {'o3': 'graders.a.model'}
    """
    if definition.get("type") in JUDGE_TYPES:
        return {str(definition["model"]): "model"}
    inner = definition.get("graders") if definition.get("type") == "multi" else None
    if isinstance(inner, list) or (isinstance(inner, dict) and isinstance(inner.get("type"), str)):
        inner = dict(enumerate(inner if isinstance(inner, list) else [inner]))
    return {model: f"graders.{key}.{path}" for key, part in (inner or {}).items() for model, path in judges_of(part).items()}


def check_judges(definition: Mapping[str, Any], service: JudgeService, beside: Path | None = None) -> None:
    """Raise UserError when a judge of this grader has no endpoint, no price where money is capped, or no local folder."""
    judges = judges_of(definition)
    service.check(judges)
    for model in judges:
        resolved = service.settings.resolve(model)
        if service.settings.is_local(resolved):
            find_model(service.settings.place_of(resolved), beside)


def who_judges(definition: Mapping[str, Any], settings: JudgeSettings) -> str:
    """For people: which model answers where; "" for graders without judges."""
    shown = []
    for model in judges_of(definition):
        resolved = settings.resolve(model)
        name = model if resolved == model else f"{model} -> {resolved}"
        shown.append(name if settings.is_local(resolved) else f"{name} at {settings.place}")
    return ", ".join(shown)
