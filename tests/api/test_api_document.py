"""The OpenAPI document against a list of what must be there: nothing falls out of it unseen, nothing comes in unlisted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import Service

LIST = Path(__file__).with_name("endpoints.txt")
OUTSIDE = {"GET /healthz", "GET /metrics"}  # not below /v1


@dataclass(frozen=True)
class Endpoint:
    method: str
    path: str
    status: str
    has_body: bool
    query: dict[str, tuple[set[str], str | None]]  # name -> its values (none told = any), its default

    @property
    def name(self) -> str:
        return nameless(self.method, f"/v1{self.path}")


def nameless(method: str, path: str) -> str:
    """Parameters of a path have other names here than there."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', path)}"


def read_list() -> list[Endpoint]:
    found = []
    for line in LIST.read_text().splitlines():
        if not line.startswith("#"):
            method, path, status, body, *query = line.split()
            found.append(Endpoint(method, path, status, body == "body", dict(map(_parameter, query))))
    return found


def _parameter(text: str) -> tuple[str, tuple[set[str], str | None]]:
    match = re.fullmatch(r"(\w+)(?::([^=]+))?(?:=(.+))?", text)
    assert match is not None, text
    return match[1], (set((match[2] or "").split("|")) - {""}, match[3])


@pytest.fixture(scope="module")
def document(service: Service, http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"{service.url}/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {nameless(method.upper(), path): one for path, methods in document["paths"].items() for method, one in methods.items()}


def test_all_that_is_listed_is_there_and_the_other_way_round(operations: dict[str, dict[str, Any]]) -> None:
    assert set(operations) - OUTSIDE == {endpoint.name for endpoint in read_list()}


@pytest.mark.parametrize("endpoint", read_list(), ids=lambda endpoint: endpoint.name)
def test_an_endpoint_in_the_document(operations: dict[str, dict[str, Any]], endpoint: Endpoint) -> None:
    operation = operations[endpoint.name]
    assert endpoint.status in operation["responses"]
    assert {"4XX", "5XX"} <= set(operation["responses"]) and "422" not in operation["responses"]
    assert ("requestBody" in operation) is endpoint.has_body
    parameters = {one["name"]: one["schema"] for one in operation.get("parameters", []) if one["in"] == "query"}
    assert set(parameters) == set(endpoint.query)
    for name, (values, default) in endpoint.query.items():
        assert values <= _values(parameters[name]), name
        assert default is None or str(parameters[name]["default"]) == default, name


def _values(schema: dict[str, Any]) -> set[str]:
    found = set(map(str, schema.get("enum", [])))
    return found.union(*(_values(branch) for branch in schema.get("anyOf", [])))


def test_bodies_are_described_field_by_field(operations: dict[str, dict[str, Any]]) -> None:
    for endpoint in read_list():
        if endpoint.has_body:
            (content,) = operations[endpoint.name]["requestBody"]["content"].values()
            assert content["schema"]["properties"], endpoint.name


def test_every_operation_has_a_name_of_its_own(operations: dict[str, dict[str, Any]]) -> None:
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))
