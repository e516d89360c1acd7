"""What graders run from the command line may ask: the judges and embeddings that the environment or a job body names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pinetune.cli.grader_input import GraderInput
from pinetune.errors import GraderError
from pinetune.graders.options import Services

if TYPE_CHECKING:
    from pinetune.judges.settings import JudgeSettings


@dataclass(frozen=True, slots=True)
class Judging:
    """`services(repeat)`: repeated questions to a judge go past its cache."""

    services: Callable[[int], Services]
    settings: JudgeSettings


@contextmanager
def grader_services(source: GraderInput, file: Path) -> Iterator[Judging]:
    """What the grader may ask, open until the block ends.

    Raises: GraderError for a bad definition, UserError where a judge of this grader cannot be asked at all.
    """
    from pydantic import ValidationError

    from pinetune.cli.grader_parts import check_definition
    from pinetune.graders.ask import with_repeat
    from pinetune.loop.judging import check_judges, judge_service
    from pinetune.wire.base import complaints
    from pinetune.wire.fine_tuning import PinetuneOptions

    check_definition(source.definition, source.where)
    try:
        own = PinetuneOptions.model_validate(source.own)
    except ValidationError as error:
        lines = [f"{file}: pinetune.{where}: {what}" for where, what in complaints(error, PinetuneOptions)]
        raise GraderError("\n".join(lines)) from None
    service = judge_service(own, file.parent)
    try:
        check_judges(source.definition, service, file.parent)
        services = service.services()

        def numbered(repeat: int) -> Services:
            return replace(services, ask=with_repeat(service.ask, repeat)) if repeat else services

        yield Judging(numbered, service.settings)
    finally:
        service.close()
