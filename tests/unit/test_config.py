"""Job bodies: every "auto" becomes a number, every mistake one clear line that names its field."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pinetune.errors import JobError
from pinetune.loop.config import JobFacts, parse_job, resolve

FACTS = JobFacts(num_train=1100, num_valid=200, num_parameters=600_000_000, context_length=4096, longest_prompt=300, on_gpu=False)


def body(hyper: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    reinforcement = {"grader": {"type": "string_check"}, "hyperparameters": hyper or {}}
    return {"model": "m", "training_file": "t.jsonl", "method": {"type": "reinforcement", "reinforcement": reinforcement}, **more}


def test_auto_becomes_the_default_recipe() -> None:
    config = resolve(parse_job(body({"batch_size": "auto", "n_epochs": "auto", "eval_interval": "auto"})), FACTS, seed=3)
    assert (config.batch_size, config.group_size, config.steps, config.n_epochs) == (16, 8, 138, 3)
    assert (config.eval_interval, config.eval_samples, config.max_tokens, config.thinking_budget) == (13, 1, 1024, 768)
    assert (config.lora_rank, config.lora_alpha) == (16, 32)
    assert config.learning_rate == pytest.approx(2e-5, rel=0.5)
    assert config.budget_minutes == math.inf
    assert (config.sampling().temperature, config.sampling().top_p) == (1.0, 1.0)


def test_a_dozen_rows_are_budgeted_in_steps() -> None:
    config = resolve(parse_job(body()), JobFacts(12, 6, 2_500_000, 512, 100, False), seed=3)
    assert (config.batch_size, config.steps, config.eval_samples, config.max_tokens) == (8, 100, 5, 412)
    assert (config.lora_rank, config.learning_rate) == (0, 1e-4)


def test_told_values_win() -> None:
    told = body(
        {"batch_size": 4, "n_epochs": 2, "learning_rate_multiplier": 0.5, "compute_multiplier": 2, "reasoning_effort": "low"},
        pinetune={"learning_rate": 1e-3, "max_tokens": 100, "lora": "off"},
    )
    config = resolve(parse_job(told), FACTS, seed=3)
    assert (config.steps, config.group_size, config.thinking_budget, config.lora_rank) == (550, 16, 25, 0)
    assert config.learning_rate == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ([], "a job is a JSON object with model, training_file and method, not list"),
        ({"model": "m", "training_file": "t"}, "method.type: only reinforcement jobs run here yet, not supervised; set method.type to"),
        (body(trainingfile="x"), "trainingfile: unknown parameter 'trainingfile'; did you mean 'training_file'?"),
        (
            body({"etest_samples": 3}),
            "method.reinforcement.hyperparameters.etest_samples: unknown parameter 'etest_samples'; did you mean 'eval_samples'?",
        ),
        (body({"batch_size": 0}), "method.reinforcement.hyperparameters.batch_size: must be 'auto', not 0, or should be greater than or"),
        (body({"n_epochs": 51}), "n_epochs: must be 'auto', not 51, or should be less than or equal to 50"),
        (body({"reasoning_effort": "extreme"}), "must be 'default', 'low', 'medium' or 'high', not 'extreme'"),
        (body(seed=-1), "seed: should be greater than or equal to 0, not -1"),
        (body(suffix=""), "suffix: string should have at least 1 character"),
        (body(pinetune={"group_size": 1}), "pinetune.group_size: must be 'auto', not 1, or should be greater than or equal to 2"),
        (body(pinetune={"budget": 3}), "pinetune.budget: unknown parameter 'budget'; did you mean 'budget_minutes'?"),
        ({k: v for k, v in body().items() if k != "model"}, "model: is missing; add it"),
        (body(hyperparameters={"n_epochs": 3}), "hyperparameters: has no effect on a reinforcement job here; set method.reinforcement."),
        (body(integrations=[{"type": "wandb"}]), "integrations: has no effect on a reinforcement job here; remove it"),
    ],
)
def test_a_bad_body_is_one_line_that_names_the_field(data: Any, line: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(data)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_prompts_that_do_not_fit_are_refused_with_the_numbers() -> None:
    facts = JobFacts(12, 6, 2_500_000, 512, 500, False)
    with pytest.raises(JobError, match="the longest prompt has 500 tokens and completions may have 100, but the model reads 512"):
        resolve(parse_job(body(pinetune={"max_tokens": 100})), facts, seed=1)
