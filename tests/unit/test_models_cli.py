"""`pinetune models`: folders, hub ids and other names, on a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pinetune.cli.models import models_app
from pinetune.errors import UserError
from pinetune.settings import Settings
from pinetune.store import Store


def run(home: Path, *args: str) -> str:
    done = CliRunner().invoke(models_app, [*args, "--home", str(home)])
    if done.exception is not None:
        raise done.exception
    return done.output


def test_add_list_alias_remove(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert run(home, "add", str(folder)).startswith("my-model ")
    run(home, "add", "Qwen/Qwen3-0.6B")
    run(home, "add", "Qwen/Qwen3-4B", "--name", "big")
    assert run(home, "alias", "o4-mini-2025-04-16", "my-model") == "o4-mini-2025-04-16  is  my-model\n"
    assert run(home, "list").splitlines() == [
        f"my-model  base  {folder}",
        "Qwen/Qwen3-0.6B  base  Qwen/Qwen3-0.6B",
        "big  base  Qwen/Qwen3-4B",
        "o4-mini-2025-04-16  is  my-model",
    ]
    with Store.open(Settings.read({}, home=home)) as store:
        assert store.models.resolve("o4-mini-2025-04-16").location == str(folder)
    assert run(home, "remove", "o4-mini-2025-04-16") == run(home, "remove", "my-model") == "removed\n"
    assert "my-model" not in run(home, "list") and (folder / "config.json").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["add", "./nowhere"], "no such model"),
        (["add", "a/b/c"], "no such model"),
        (["add", "Qwen/Qwen3-0.6B", "--name", "ft:mine"], "belong to tuned ones"),
        (["alias", "o4-mini", "none"], "there is no model none here"),
        (["remove", "none"], "there is no model or alias none here"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, args: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        run(tmp_path, *args)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json in this folder"):
        run(tmp_path, "add", str(tmp_path))
