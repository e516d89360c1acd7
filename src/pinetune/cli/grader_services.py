"""What graders run from the command line may ask: a judge and embeddings, as the environment configures them."""

from __future__ import annotations

from pinetune.graders.options import Services


def grader_services(repeat: int = 0) -> Services:
    """`repeat` tells repeated questions to a judge apart, past its cache."""
    return Services()
