"""A job's judges: the settings that reach them, and what is checked before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinetune.errors import ModelError, UserError
from pinetune.judges.settings import Price
from pinetune.loop.judging import check_judges, judge_service, judges_of, who_judges
from pinetune.settings import Settings
from pinetune.store import Store
from pinetune.wire.fine_tuning import PinetuneOptions

URL = "http://judge.example/v1"


def options(**own: Any) -> PinetuneOptions:
    return PinetuneOptions.model_validate(own)


def test_the_jobs_settings_reach_the_judges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PINETUNE_HOME", str(tmp_path))
    monkeypatch.setenv("PINETUNE_JUDGE_BASE_URL", URL)
    monkeypatch.setenv("PINETUNE_JUDGE_API_KEY", "k")
    monkeypatch.setenv("PINETUNE_MODEL_ALIASES", '{"o3": "a"}')
    own = options(
        judge_aliases={"gpt-4o": "b"}, judge_concurrency=3, judge_timeout=1.5, judge_retries=0, judge_budget_tokens=100,
        judge_budget_usd=2.5, judge_prices={"b": {"input": 1, "output": 2}},
    )  # fmt: skip
    settings = judge_service(own).settings
    assert (settings.base_url, settings.api_key, settings.cache) == (URL, "k", tmp_path / "judges.sqlite")
    assert settings.aliases == {"o3": "a", "gpt-4o": "b"}
    assert (settings.concurrency, settings.timeout, settings.retries) == (3, 1.5, 0)
    assert (settings.budget_tokens, settings.budget_usd, settings.prices) == (100, 2.5, {"b": Price(1, 2)})


def judge(model: str, kind: str = "score_model") -> dict[str, Any]:
    return {"type": kind, "model": model, "input": []}


@pytest.mark.parametrize(
    ("grader", "judges"),
    [
        ({"type": "python", "source": ""}, {}),
        (judge("o3", "label_model"), {"o3": "model"}),
        (
            {"type": "multi", "graders": {"a": judge("x"), "b": {"type": "python"}, "c": judge("y")}},
            {"x": "graders.a.model", "y": "graders.c.model"},
        ),
        ({"type": "multi", "graders": [judge("x")]}, {"x": "graders.0.model"}),
        ({"type": "multi", "graders": judge("x")}, {"x": "graders.0.model"}),
    ],
)
def test_the_judges_of_a_grader(grader: dict[str, Any], judges: dict[str, str]) -> None:
    assert judges_of(grader) == judges


def test_a_job_whose_judge_cannot_be_asked_does_not_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PINETUNE_JUDGE_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PINETUNE_JUDGE_API_KEY", "PINETUNE_MODEL_ALIASES"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="judge o3: no endpoint is configured"):
        check_judges(judge("o3"), judge_service(options()))
    with pytest.raises(UserError, match="no price for big"):
        check_judges(judge("o3"), judge_service(options(judge_base_url=URL, judge_aliases={"o3": "big"}, judge_budget_usd=1)))
    with pytest.raises(ModelError, match="nowhere: no such model"):
        check_judges(judge("o3"), judge_service(options(judge_aliases={"o3": "local:nowhere"})), tmp_path)
    check_judges(judge("o3"), judge_service(options(judge_aliases={"o3": "pinetune-mini"}, judge_budget_usd=1)))


def test_the_operator_s_alias_judges_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job's process finds the store by its surroundings."""
    for name in ("PINETUNE_JUDGE_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PINETUNE_JUDGE_API_KEY", "PINETUNE_MODEL_ALIASES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PINETUNE_HOME", str(tmp_path))
    with Store.open(Settings.read()) as store:
        store.models.register("house", "pinetune-mini")
        store.models.register("gone", str(tmp_path / "no-such-folder"))
        store.models.set_alias("o3", "house")
        store.models.set_alias("o1", "gone")
    service = judge_service(options())
    check_judges(judge("o3"), service)
    assert who_judges(judge("o3"), service.settings) == "o3 -> local:house"
    with pytest.raises(ModelError, match="no such model"):
        check_judges(judge("o1"), service)
    with pytest.raises(UserError, match="pinetune models alias o4 MODEL"):
        check_judges(judge("o4"), service)


def test_people_read_who_judges() -> None:
    settings = judge_service(options(judge_base_url=URL, judge_aliases={"o3": "big", "o1": "local:x"})).settings
    grader = {"type": "multi", "graders": {"a": judge("o3"), "b": judge("o1"), "c": judge("m")}}
    assert who_judges(grader, settings) == f"o3 -> big at {URL}, o1 -> local:x, m at {URL}"
    assert who_judges({"type": "python"}, settings) == ""
