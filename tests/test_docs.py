"""What the docs must keep up with: every setting, every command, every room; and no link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pinetune.wire.fine_tuning import JobBody, PinetuneOptions, ReinforcementHyperparameters

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


@pytest.mark.parametrize("shape", [PinetuneOptions, ReinforcementHyperparameters])
def test_every_setting_is_in_the_job_page(shape: type[PinetuneOptions]) -> None:
    text = (ROOT / "docs" / "job.md").read_text()
    assert [name for name in shape.model_fields if f"`{name}`" not in text] == []


def test_the_readmes_job_is_a_valid_job() -> None:
    import json

    block = re.search(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert JobBody.model_validate(json.loads(block[1])).method.type == "reinforcement"


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_every_room_is_in_the_readme(readme: str) -> None:
    text = (ROOT / readme).read_text()
    rooms = [path.parent.name for path in (ROOT / "src" / "pinetune").glob("*/__init__.py")]
    assert [room for room in rooms if f"`{room}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_docs_exist(page: Path) -> None:
    from pinetune.cli.main import app

    known = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    known |= {group.name for group in app.registered_groups if group.name}
    used = set(re.findall(r"^(?:\s*)pinetune ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)) | set(
        re.findall(r"`pinetune ([a-z][a-z-]*)", page.read_text())
    )
    assert used - known == set()
