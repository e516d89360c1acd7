"""/responses: create (whole, streamed, in the background), retrieve, delete, cancel, input items, token counts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from pinetune.evals.answer_rules import Rule
from pinetune.serving.directory import ServedModel
from pinetune.serving.http import begun, event_lines, project_of, read_body, unless_gone
from pinetune.serving.items import Item, uniform
from pinetune.serving.paging import Limit, Sorted, page_of
from pinetune.serving.responses import Reply, to_turn
from pinetune.serving.service import Service
from pinetune.serving.several import ask_several, check
from pinetune.serving.turn import Turn, count_tokens
from pinetune.wire.document import describe
from pinetune.wire.errors import ApiProblem
from pinetune.wire.responses import InputTokensRequest, ResponseRequest


def add(routes: APIRouter, service: Service) -> None:
    @routes.post("/responses", openapi_extra=describe(ResponseRequest), tags=["responses"], response_model=None)
    async def create_response(request: Request) -> Response:
        """A model's answer to a text or a list of items, whole, streamed or in the background."""
        body, project = await read_body(request, ResponseRequest), project_of(request)
        served = await service.model(body.model, project)
        items, turn = await _turn(service, body, project)
        several, streamed = body.pinetune, bool(body.stream)
        rule = None if several is None else check(several, turn, stream=streamed, background=bool(body.background))
        if body.background:
            _check_background(body)
            return JSONResponse(await _background(service, body, turn, served, items, project))
        if body.stream:
            return await begun(request, _lines(service, body, turn, served, items, project))
        return JSONResponse(await unless_gone(request, lambda: _whole(service, body, turn, served, items, project, rule)))

    @routes.post("/responses/input_tokens", openapi_extra=describe(InputTokensRequest), tags=["responses"])
    async def count_input_tokens(request: Request) -> dict[str, Any]:
        """How many tokens a request's input has in the model's chat template."""
        body, project = await read_body(request, InputTokensRequest), project_of(request)
        served = await service.model(body.model, project)
        _, turn = await _turn(service, body, project)
        tokens = await service.compute(served, lambda ready: count_tokens(turn, ready))
        return {"object": "response.input_tokens", "input_tokens": tokens}

    @routes.get("/responses/{response_id}", tags=["responses"])
    async def get_response(request: Request, response_id: str, stream: bool = False) -> dict[str, Any]:
        """A stored response."""
        if stream:
            message = "a stored response cannot be streamed again; retrieve it without stream"
            raise ApiProblem(400, message, code="invalid_value", param="stream")
        return dict((await service.recall("response", response_id, project_of(request))).body)

    @routes.delete("/responses/{response_id}", tags=["responses"])
    async def delete_response(request: Request, response_id: str) -> dict[str, Any]:
        """Delete a stored response; responses that continued it can no longer be continued."""
        await service.forget("response", response_id, project_of(request))
        return {"id": response_id, "object": "response", "deleted": True}

    @routes.post("/responses/{response_id}/cancel", tags=["responses"])
    async def cancel_response(request: Request, response_id: str) -> dict[str, Any]:
        """Stop a response that runs in the background."""
        project = project_of(request)
        kept = await service.recall("response", response_id, project)
        if not kept.body.get("background"):
            message = "Only responses created with background=true can be cancelled."
            raise ApiProblem(400, message, code="invalid_value", param="response_id")
        await service.stop_background(response_id)
        return dict((await service.recall("response", response_id, project)).body)

    @routes.get("/responses/{response_id}/input_items", tags=["responses"])
    async def list_input_items(
        request: Request, response_id: str, after: str | None = None, limit: Limit = 20, order: Sorted = "desc"
    ) -> dict[str, Any]:
        """The items a stored response was given."""
        kept = await service.recall("response", response_id, project_of(request))
        return page_of([dict(item) for item in kept.input], after, limit, order)


async def _turn(service: Service, body: ResponseRequest | InputTokensRequest, project: str) -> tuple[list[Item], Turn]:
    """The request's own items, and the turn of the whole conversation."""
    before: list[Item] = []
    if body.previous_response_id is not None:
        for kept in await service.chain(body.previous_response_id, project):
            before += [*kept.input, *kept.body["output"]]
    known = {item["id"]: item for item in before}
    items = uniform(body.input, known.get)
    return items, to_turn(body, [*before, *items])


async def _whole(
    service: Service, body: ResponseRequest, turn: Turn, served: ServedModel, items: Sequence[Item], project: str, rule: Rule | None
) -> dict[str, Any]:
    if body.pinetune is not None and rule is not None:
        reply = Reply.of_picked(body, turn, items, await ask_several(service, body.pinetune, rule, turn, served))
    else:
        async with service.answer(served, turn) as (shown, events):
            reply = Reply(body, turn, shown, items)
            async for event in events:
                reply.take(event)
    if body.store is not False:
        await service.remember(reply.kept(), project)
    return reply.body()


async def _lines(
    service: Service, body: ResponseRequest, turn: Turn, served: ServedModel, items: Sequence[Item], project: str
) -> AsyncGenerator[str]:
    async with service.answer(served, turn) as (shown, events):
        reply = Reply(body, turn, shown, items)
        try:
            async for event in events:
                for line in reply.take(event):
                    if line["type"] in ("response.completed", "response.incomplete") and body.store is not False:
                        await service.remember(reply.kept(), project)  # before the client can ask for it
                    yield event_lines(line)
        except ApiProblem as problem:
            if not reply.started:
                raise  # nothing was sent yet: the status can still say it
            for line in reply.fail(problem):
                yield event_lines(line)


def _check_background(body: ResponseRequest) -> None:
    if body.store is False:
        raise ApiProblem(400, "a background response must be stored: leave store out", code="invalid_value", param="store")
    if body.stream:
        message = "a background response cannot be streamed here: poll responses.retrieve"
        raise ApiProblem(400, message, code="invalid_value", param="stream")


async def _background(
    service: Service, body: ResponseRequest, turn: Turn, served: ServedModel, items: Sequence[Item], project: str
) -> dict[str, Any]:
    """Keep the response as queued, and replace it as it goes on."""
    from pinetune.serving.turn import Shown

    reply = Reply(body, turn, Shown(), items)
    kept = reply.kept()

    async def work() -> None:
        try:
            async with service.answer(served, turn) as (shown, events):
                reply.show(shown)
                async for event in events:
                    new = reply.take(event)
                    if any(line["type"] == "response.created" for line in new):
                        await service.remember(replace(kept, body=reply.body()), project)
        except ApiProblem as problem:
            reply.fail(problem)
        except BaseException:
            reply.cancel()
            raise
        finally:
            service.remember_now(replace(kept, body=reply.body()), project)

    await service.remember(kept, project)
    service.start_background(reply.id, work())
    return dict(kept.body)
