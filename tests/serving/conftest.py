"""A live server on a free port, with tiny random models and the bundled miniature, and the official client to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from api_server import PATIENCE, listening
from openai import OpenAI
from tiny_models import save_tiny

from pinetune.serving.app import FolderDirectory, create
from pinetune.serving.directory import ServedModel


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """The base URL of `app`, served by uvicorn in a thread."""
    with listening(app) as address:
        yield f"{address}/v1"


def connect(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="none", max_retries=0, timeout=PATIENCE)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny: Qwen3, ChatML; llama: Llama with its own template; open: the template opens the thinking."""
    home = tmp_path_factory.mktemp("models")
    save_tiny(home / "tiny", "qwen3", "chatml", seed=3)
    save_tiny(home / "llama", "llama", "llama3", seed=4)
    save_tiny(home / "open", "qwen3", "chatml-open", seed=5)
    return home


@pytest.fixture(scope="session")
def models(folders: Path) -> list[ServedModel]:
    named = [ServedModel(f"test/{name}:v1", str(folders / name), created=1700000000) for name in ("tiny", "llama", "open")]
    return [*named, ServedModel("broken", str(folders / "nowhere"))]


@pytest.fixture(scope="session")
def url(models: list[ServedModel]) -> Iterator[str]:
    with serve(create(FolderDirectory(models))) as address:
        yield address


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[OpenAI]:
    with connect(url) as one:
        yield one


@pytest.fixture(scope="session")
def new_server() -> Callable[..., Any]:
    """serve(create(...)) as a context manager, for tests that need their own settings."""

    @contextmanager
    def start(directory: Any, *args: Any, **options: Any) -> Iterator[tuple[OpenAI, Any]]:
        app = create(directory, *args, **options)
        with serve(app) as address, connect(address) as one:
            yield one, app.state.service

    return start
