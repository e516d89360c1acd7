"""One live server for most tests of a file, and clients to ask it: what one file leaves behind no other file finds in its lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from api_server import FakeWorker, Service, connect, service_on, upload_rows
from openai import OpenAI
from openai.types import FileObject


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service_on(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    with connect(service.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def lenient(service: Service) -> Iterator[OpenAI]:
    with connect(service.url, strict=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with service.http() as opened:
        yield opened


@pytest.fixture(scope="module")
def rows_file(client: OpenAI) -> FileObject:
    return upload_rows(client)


@pytest.fixture
def worker_of(service: Service, tmp_path: Path) -> Callable[[str], FakeWorker]:
    return lambda job_id: FakeWorker(service.store, job_id, tmp_path)
