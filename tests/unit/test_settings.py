"""Settings: flags over environment over defaults, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinetune.errors import UserError
from pinetune.settings import Settings


def test_defaults_follow_the_home() -> None:
    settings = Settings.read({"PINETUNE_HOME": "/srv/pt"})
    assert settings.database_url == "sqlite:////srv/pt/pinetune.db"
    assert settings.files_url == "/srv/pt/files"
    assert (settings.host, settings.port, settings.organization, settings.model_aliases) == ("127.0.0.1", 8000, "pinetune", {})
    assert Settings.read({}).home == Path.home() / ".pinetune"


def test_flags_win_over_the_environment_and_absent_flags_do_not() -> None:
    env = {"PINETUNE_PORT": "9000", "PINETUNE_HOST": "0.0.0.0", "PINETUNE_MODEL_ALIASES": '{"o4-mini": "pinetune-mini"}'}
    settings = Settings.read(env, port=7000, host=None)
    assert (settings.port, settings.host, settings.model_aliases) == (7000, "0.0.0.0", {"o4-mini": "pinetune-mini"})
    assert Settings.read({}, port=0).port == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "http", "PINETUNE_PORT: 'http' is not a number; set it to one from 0 to 65535"),
        ("PORT", "70000", "PINETUNE_PORT: 70000 is out of range"),
        ("BUSY_SECONDS", "nan", "PINETUNE_BUSY_SECONDS: nan is out of range"),
        ("ORGANIZATION", "a:b", "PINETUNE_ORGANIZATION: 'a:b' cannot stand in a model name"),
        ("MODEL_ALIASES", "{", "PINETUNE_MODEL_ALIASES: not JSON"),
        ("MODEL_ALIASES", '["a"]', "PINETUNE_MODEL_ALIASES: must be a JSON object of names"),
        ("MODEL_ALIASES", '{"a": 1}', "PINETUNE_MODEL_ALIASES: must be a JSON object of names"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings.read({f"PINETUNE_{name}": value})
    assert str(caught.value).startswith(said)


def test_an_unknown_flag_is_a_bug() -> None:
    with pytest.raises(TypeError, match="unknown settings: prot"):
        Settings.read({}, prot=1)
