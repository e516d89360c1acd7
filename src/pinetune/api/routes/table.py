"""The resources of the API; one line adds one. Their order matters only where two patterns match the same path."""

from __future__ import annotations

from fastapi import APIRouter

from pinetune.api.routes import (
    eval_measures,
    evals,
    evidence,
    files,
    graders,
    jobs,
    judge_budget,
    models,
    permissions,
    preflight,
    rollouts,
    serving,
    uploads,
    webhooks,
)

# Each is mounted below /v1, behind the door of `auth`.
TABLE: tuple[APIRouter, ...] = (
    files.routes,
    uploads.routes,
    jobs.routes,
    permissions.routes,
    graders.routes,
    evals.routes,
    evals.pages,
    eval_measures.routes,
    models.routes,
    serving.routes,
    webhooks.routes,
    rollouts.routes,
    evidence.routes,
    judge_budget.routes,
    preflight.routes,
)
