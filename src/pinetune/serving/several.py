"""Several samples of a turn, one of which is the answer: by vote, or by a reranker.

All samples are drawn in the engine's running batch; then one is told as if it had been the only one, so that replies need to know
nothing of the others but what they cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pinetune.errors import UserError
from pinetune.evals.answer_rules import PROGRAM, Rule, open_rule
from pinetune.evals.voting import vote
from pinetune.records import Row
from pinetune.serving.directory import ServedModel
from pinetune.serving.sample import Sample
from pinetune.serving.turn import Shown, Turn
from pinetune.wire.errors import ApiProblem
from pinetune.wire.several import Chosen, SeveralOptions

if TYPE_CHECKING:
    from pinetune.models.reranker import Reranker
    from pinetune.records import Completion
    from pinetune.serving.engine import Event
    from pinetune.serving.service import Service

OPEN_RERANKERS = 4  # kept in memory; the least recently used goes first


@dataclass(frozen=True, slots=True)
class Picked:
    """`events` are those of one answer, its sample numbered 0. Tokens are those of all samples."""

    shown: Shown
    events: tuple[Event, ...]
    output_tokens: int
    reasoning_tokens: int
    about: Chosen


class Rerankers:
    """Rerankers by name: the folders in `folder`. Requests name them; a path of this machine is none of theirs."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._open: dict[str, Reranker] = {}

    def get(self, name: str) -> Reranker:
        """Called from worker threads. Raises ApiProblem 404."""
        from pinetune.models.reranker import SETTINGS, open_reranker

        if self._folder is None or not (self._folder / name / SETTINGS).is_file():
            raise ApiProblem(404, f"The reranker '{name}' does not exist.", code="reranker_not_found", param="pinetune.rerank")
        found = self._open.pop(name, None) or open_reranker(self._folder / name)
        self._open[name] = found
        while len(self._open) > OPEN_RERANKERS:
            del self._open[next(iter(self._open))]
        return found


def check(options: SeveralOptions, turn: Turn, *, stream: bool = False, background: bool = False) -> Rule:
    """The rule of the request. Raises ApiProblem 400 for what does not go together."""

    def refused(why: str, param: str) -> ApiProblem:
        return ApiProblem(400, why, code="invalid_value", param=param)

    if stream or background:
        name = "stream" if stream else "background"
        raise refused(f"an answer chosen from several samples is known only when all are done; leave {name} out", name)
    for name, asked in (("n", turn.n > 1), ("tools", bool(turn.tools)), ("logprobs", turn.top_logprobs is not None)):
        if asked:
            raise refused(f"{name} does not go with pinetune.samples; leave it out", name)
    if options.vote is not None and options.vote == (options.rerank is not None):
        raise refused("choose by vote or by a reranker: leave vote out, or rerank", "pinetune.vote")
    if options.rule == PROGRAM:
        raise refused("programs are executed by `pinetune vote` only; use another rule", "pinetune.rule")
    try:
        return open_rule(options.rule or "text")
    except UserError as error:
        raise refused(str(error), "pinetune.rule") from error


async def ask_several(service: Service, options: SeveralOptions, rule: Rule, turn: Turn, served: ServedModel) -> Picked:
    """Draw the samples, choose one. Raises ApiProblem."""
    from pinetune.serving.engine import Done, News, Started

    reranker = None if options.rerank is None else await asyncio.to_thread(service.rerankers.get, options.rerank)
    many = replace(turn, n=options.samples)
    prompt_tokens = 0
    completions: dict[int, Completion] = {}
    async with service.answer(served, many) as (shown, events):
        samples = [Sample(many, shown) for _ in range(many.n)]
        async for event in events:
            if isinstance(event, Started):
                prompt_tokens = event.prompt_tokens
            elif isinstance(event, News):
                samples[event.sample].grow(event.piece)
            elif isinstance(event, Done):
                samples[event.sample].end(event.completion)
                completions[event.sample] = event.completion
    if reranker is None:
        index, answer, about = _voted(samples, rule)
    else:
        chosen = reranker
        row = Row(0, tuple({"role": message.role, "content": message.text} for message in turn.messages), {})
        said = [(sample.reasoning, sample.content or "") for sample in samples]
        scores = await service.compute(served, lambda _: chosen.score_answers(row, said))  # on the engine's thread: one computes at a time
        index = max(range(len(scores)), key=lambda i: (scores[i], -i))
        answer, about = samples[index].content or "", {"rerank": options.rerank, "score": scores[index]}
        about["share"] = _voted(samples, rule, of=index)[2]["share"]
    return Picked(
        shown=shown,
        events=_replayed(prompt_tokens, samples[index].reasoning, answer, completions[index]),
        output_tokens=sum(len(one.token_ids) for one in completions.values()),
        reasoning_tokens=sum(one.reasoning_tokens for one in completions.values()),
        about={"samples": many.n, **about},
    )


def _voted(samples: Sequence[Sample], rule: Rule, of: int | None = None) -> tuple[int, str, Chosen]:
    """The vote; with `of`, the share of the samples that say what that one says."""
    answers = [sample.content or "" for sample in samples]
    voted = vote(answers, rule)
    share = voted.share
    if of is not None:
        reading = rule.read(answers[of])
        others = [rule.read(answer) for answer in answers]
        share = 0.0 if reading is None else sum(one is not None and one.key == reading.key for one in others) / len(answers)
    return voted.index, voted.answer, {"rule": rule.name, "share": share}


def _replayed(prompt_tokens: int, reasoning: str, answer: str, completion: Completion) -> tuple[Event, ...]:
    from pinetune.serving.engine import Done, News, Started
    from pinetune.serving.text import Piece

    return Started(prompt_tokens), News(0, Piece(reasoning=reasoning, answer=answer)), Done(0, completion)
