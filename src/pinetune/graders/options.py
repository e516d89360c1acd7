"""What a grader is built with besides its definition."""

from __future__ import annotations

from dataclasses import dataclass, field

from pinetune.graders.ask import Ask, Embed
from pinetune.sandbox.limits import Limits


@dataclass(frozen=True, slots=True)
class Services:
    """What graders ask of the outside, plugged in by the program that runs them; None where it is not configured.

    `ask` answers a judge's prompt. `embed(texts, model name)` gives one vector a text, all of one length.
    """

    ask: Ask | None = None
    embed: Embed | None = None


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """Passed down unchanged, but for `path` and `default_name`, to the graders inside a `multi`."""

    path: str = "grader"  # JSON path of the definition, for complaints
    default_name: str = "grader"
    trusted: bool = False  # the caller vouches for python sources: run them without a system package
    unsafe_python: bool = False  # the operator allows unconfined python graders, by name
    json_answers: bool = False  # the job has a response_format: samples carry output_json
    limits: Limits = field(default_factory=Limits)
    services: Services = field(default_factory=Services)
    endpoint_seconds: float = 600.0  # for each request to an endpoint grader
