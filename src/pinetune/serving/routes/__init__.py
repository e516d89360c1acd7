"""The routes of serving, to be mounted below /v1: chat completions, responses, models, embeddings.

Whoever mounts them turns ApiProblem into its envelope and sets `request.state.project` where there are projects.
"""

from __future__ import annotations

from fastapi import APIRouter

from pinetune.serving.routes import chat, embeddings, models, responses
from pinetune.serving.service import Service


def router(service: Service) -> APIRouter:
    """All routes of serving, without a prefix."""
    routes = APIRouter()
    for resource in (chat, responses, models, embeddings):
        resource.add(routes, service)
    return routes
