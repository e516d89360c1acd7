"""The hosted double, and a store to bring things into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import prepare
from hosted_double import Hosted, hosted_on

from pinetune.settings import Settings
from pinetune.store import Store


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with hosted_on(tmp_path_factory.mktemp("hosted")) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    prepare(tmp_path)
    with Store.open(Settings.read({}, home=tmp_path)) as store:
        yield store
