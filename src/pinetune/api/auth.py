"""Who asks. On loopback without keys everyone on this machine is project `proj_default`; otherwise a key is needed.

Without keys the browser is the danger: a web page could post to 127.0.0.1. So then the Host must name this machine (a
rebound DNS name does not) and an Origin, which browsers send and clients do not, must be this machine's too.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import anyio
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from pinetune.api.context import Context, Here
from pinetune.api.pages import ASK, is_page, password
from pinetune.errors import UserError
from pinetune.settings import Settings
from pinetune.store import DEFAULT_PROJECT, Store
from pinetune.wire.errors import ApiProblem

ANY_KEY_SECONDS = 1.0  # how long "there are no keys" is believed before the store is asked again
INVALID = "invalid_request_error"
_DOCUMENTED = HTTPBearer(auto_error=False, description="An API key of `pinetune keys create`")


@dataclass(frozen=True, slots=True)
class Caller:
    """Everything a caller sees or makes belongs to `project`. `key` is "" without keys."""

    project: str
    key: str = ""


class Doorkeeper:
    """Knows whether keys are needed: from the first key on for ever, so that revoking the last one locks and does not open.

    That there is none is believed for a second: it is asked at every request.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._loopback = is_loopback(settings.host)
        self._store = store
        self._open_until = 0.0
        self._closed = False

    async def needs_key(self) -> bool:
        if self._closed or not self._loopback:
            return True
        if time.monotonic() < self._open_until:
            return False
        self._closed = bool(await anyio.to_thread.run_sync(self._store.keys.list))
        self._open_until = time.monotonic() + ANY_KEY_SECONDS
        return self._closed


def check_safe(settings: Settings, store: Store) -> None:
    """Raise UserError when a server that others can reach would have no key to ask for."""
    if not is_loopback(settings.host) and not store.keys.any():
        raise UserError(
            f"host {settings.host} can be reached by others, and there is no API key yet; run `pinetune keys create`, or stay on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _caller(request: Request, here: Here, _: Annotated[object, Depends(_DOCUMENTED)]) -> Caller:
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    if await doorkeeper.needs_key():
        caller = await _by_key(request, here)
    else:
        _refuse_browsers(request)
        caller = Caller(DEFAULT_PROJECT)
    request.state.project = caller.project
    allowance = here.buckets.take(caller.key) if caller.key else None
    if allowance is not None:
        request.state.headers = allowance.headers()
        if allowance.wait_seconds:
            text = f"Rate limit reached: {allowance.limit} requests a minute for this key. Try again in {allowance.wait_seconds:.1f} s."
            raise ApiProblem(429, text, type="requests", code="rate_limit_exceeded", retry_after=allowance.wait_seconds)
    return caller


Who = Annotated[Caller, Depends(_caller)]


async def _by_key(request: Request, here: Context) -> Caller:
    secret = _secret(request)
    if not secret:
        text = "You did not provide an API key: send the header `Authorization: Bearer YOUR_KEY`; `pinetune keys create` makes one."
        raise _refusal(request, text, None)
    key = await anyio.to_thread.run_sync(here.store.keys.check, secret)
    if key is None:
        shown = f"{secret[:6]}***{secret[-4:]}" if len(secret) >= 20 else "***"
        text = f"Incorrect API key provided: {shown}. It may be revoked; `pinetune keys list` shows those that work."
        raise _refusal(request, text, "invalid_api_key")
    return Caller(key.project, key.id)


def _refusal(request: Request, text: str, code: str | None) -> ApiProblem:
    if is_page(request):
        request.state.headers = ASK
    return ApiProblem(401, text, type=INVALID, code=code)


def _secret(request: Request) -> str:
    """From `Authorization: Bearer`, from `api-key` as Azure's clients send it, or, for pages, from a browser's password."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic" and is_page(request):
        return password(value)
    return value.strip() if scheme.lower() == "bearer" else request.headers.get("api-key", "").strip()


def _refuse_browsers(request: Request) -> None:
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if not is_loopback(_name(f"//{host}")):
        raise ApiProblem(
            403,
            f"Host {host} is not this machine's name, and there are no API keys yet; `pinetune keys create` makes one",
            code="host_not_allowed",
        )
    if origin is not None and not is_loopback(_name(origin)):
        raise ApiProblem(
            403,
            f"Pages of {origin} may not use this server without an API key; `pinetune keys create` makes one",
            code="origin_not_allowed",
        )


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
