"""Where judges are and what they cost: who wins, where keys go, and that nobody reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pinetune.errors import StoreError, UserError
from pinetune.judges.cache import AnswerCache
from pinetune.judges.registered import Registered
from pinetune.judges.settings import JudgeSettings, Price
from pinetune.settings import Settings
from pinetune.store import Store

OURS, OTHER = "http://judge.example/v1", "http://other.example/v1"


@pytest.mark.parametrize(
    ("env", "given", "url", "key"),
    [
        ({}, {}, "", ""),
        ({"OPENAI_API_KEY": "o"}, {}, "https://api.openai.com/v1", "o"),
        ({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": OURS + "/"}, {}, OURS, "o"),
        ({"PINETUNE_JUDGE_BASE_URL": OURS, "OPENAI_BASE_URL": OTHER}, {}, OURS, ""),
        ({"PINETUNE_JUDGE_BASE_URL": OURS, "PINETUNE_JUDGE_API_KEY": "p", "OPENAI_API_KEY": "o"}, {}, OURS, "p"),
        ({"PINETUNE_JUDGE_BASE_URL": OURS, "PINETUNE_JUDGE_API_KEY": "p"}, {"base_url": OURS + "/"}, OURS, "p"),
        # A job that names another endpoint does not take the operator's key there.
        ({"PINETUNE_JUDGE_BASE_URL": OURS, "PINETUNE_JUDGE_API_KEY": "p"}, {"base_url": OTHER}, OTHER, ""),
        ({"PINETUNE_JUDGE_API_KEY": "p"}, {"base_url": OTHER}, OTHER, ""),
        ({"OPENAI_API_KEY": "o"}, {"base_url": OTHER}, OTHER, ""),
        ({}, {"base_url": OURS}, OURS, ""),
    ],
)
def test_the_endpoint_and_the_key_that_goes_there(env: dict[str, str], given: dict[str, Any], url: str, key: str) -> None:
    settings = JudgeSettings.read(env, **given)
    assert (settings.base_url, settings.api_key) == (url, key)


def test_aliases_add_up_and_the_job_wins() -> None:
    env = {"PINETUNE_MODEL_ALIASES": '{"o3": "a", "gpt-4o": "b"}'}
    settings = JudgeSettings.read(env, aliases={"o3": "local:folder"})
    assert [settings.resolve(name) for name in ("o3", "gpt-4o", "other")] == ["local:folder", "b", "other"]
    assert [settings.is_local(settings.resolve(name)) for name in ("o3", "gpt-4o", "pinetune-mini")] == [True, False, True]


def test_the_operator_s_aliases_hold_for_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.judges.registered.SECONDS", 0.0)  # each look reads
    env = {"PINETUNE_HOME": str(tmp_path), "PINETUNE_MODEL_ALIASES": '{"gpt-4o": "at-the-endpoint"}', "PINETUNE_JUDGE_BASE_URL": OURS}
    assert JudgeSettings.read(env).registered is None and not list(tmp_path.iterdir())  # no store is made for a look at it
    with Store.open(Settings.read(env)) as store:
        store.models.register("house", str(tmp_path / "weights"))
        settings = JudgeSettings.read(env, aliases={"o1": "the-job-s"})
        for name in ("o3", "gpt-4o", "o1", "house"):
            store.models.set_alias(name, "pinetune-mini" if name == "house" else "house")
        said = [settings.resolve(name) for name in ("o3", "gpt-4o", "o1", "other", "local:house")]
        assert said == ["local:house", "at-the-endpoint", "the-job-s", "other", "local:house"]
        assert settings.is_local(settings.resolve("o3")) and settings.price("o3") == Price(0, 0)
        assert [settings.place_of(name) for name in ("local:house", "local:elsewhere", "pinetune-mini")] == [
            str(tmp_path / "weights"), "elsewhere", "pinetune-mini",
        ]  # fmt: skip
        store.models.remove_alias("o3")
        assert settings.resolve("o3") == "o3"  # a running service hears of it


def test_a_store_that_is_away_for_a_while_changes_no_judge() -> None:
    answers: list[Any] = [StoreError("away"), {"o3": "house"}, StoreError("away")]

    def aliases() -> dict[str, str]:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return dict(answer)

    registered = Registered(aliases, lambda id: None)
    with pytest.raises(StoreError):
        registered.target("o3")
    assert registered.target("o3") == "house"
    assert registered.target("o3") == "house" and answers == []


def test_a_job_that_begins_while_the_store_is_away_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pinetune.judges.registered.RETRY_SECONDS", 0.0)
    answers: list[Any] = [StoreError("starting"), StoreError("starting"), {"o3": "house"}]

    def aliases() -> dict[str, str]:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return dict(answer)

    assert Registered(aliases, lambda id: None, patience=600.0).target("o3") == "house" and answers == []


def test_the_cache_file(tmp_path: Path) -> None:
    assert JudgeSettings.read({"PINETUNE_HOME": str(tmp_path)}).cache == tmp_path / "judges.sqlite"
    assert JudgeSettings.read({"PINETUNE_JUDGE_CACHE": str(tmp_path / "x")}).cache == tmp_path / "x"
    assert JudgeSettings.read({"PINETUNE_JUDGE_CACHE": "off"}).cache is None


@pytest.mark.parametrize("url", ["judge.example/v1", "ftp://x/v1", "http://", "/v1"])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="judge_base_url: not a web address"):
        JudgeSettings.read({}, base_url=url)


@pytest.mark.parametrize("url", ["http://me:word@judge.example/v1", "http://judge.example/v1?key=word"])
def test_a_job_holds_no_secret_in_its_address(url: str) -> None:
    with pytest.raises(UserError, match="secrets belong into the environment") as caught:
        JudgeSettings.read({}, base_url=url)
    assert "word@" not in str(caught.value) and "key=" not in str(caught.value)
    assert JudgeSettings.read({"PINETUNE_JUDGE_BASE_URL": url}).base_url == url


def test_nobody_reads_a_secret() -> None:
    settings = JudgeSettings(base_url="https://me:hidden-word@judge.example:8443/v1", api_key="the-key-itself")
    assert "the-key-itself" not in repr(settings)
    text = "the-key-itself and hidden-word and sk-proj-abcdef123 are bad, ask-me is not"
    assert settings.scrub(text) == "[hidden] and [hidden] and [hidden] are bad, ask-me is not"
    assert settings.place == "https://judge.example:8443/v1"
    assert JudgeSettings().scrub("words") == "words"


def test_prices() -> None:
    usage = {"prompt_tokens": 1000, "cached_tokens": 400, "completion_tokens": 100}
    assert Price(2, 8).of(usage) == pytest.approx((1000 * 2 + 100 * 8) / 1e6)
    assert Price(2, 8, 0.5).of(usage) == pytest.approx((600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)
    settings = JudgeSettings(aliases={"o3": "big", "mini": "local:x"}, prices={"big": Price(1, 1), "gpt": Price(3, 3)})
    assert [settings.price(name) for name in ("o3", "big", "gpt", "mini", "other")] == [
        Price(1, 1), Price(1, 1), Price(3, 3), Price(0, 0), None,
    ]  # fmt: skip


def test_a_money_budget_needs_prices() -> None:
    settings = JudgeSettings(base_url=OURS, aliases={"o3": "big"}, budget_usd=1.0)
    with pytest.raises(UserError, match=r'judge_prices: no price for big.*"big": \{"input"'):
        settings.check(["o3"])
    JudgeSettings(base_url=OURS, aliases={"o3": "big"}, budget_usd=1.0, prices={"big": Price(1, 1)}).check(["o3"])


WRITER = """
import sys
from pathlib import Path
from pinetune.judges.cache import AnswerCache
cache = AnswerCache(Path(sys.argv[1]))
for n in range(60):
    cache.put(f"{sys.argv[2]}-{n}", n)
    cache.put(f"same-{n}", n)
cache.close()
"""


def test_processes_share_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "new" / "c.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stderr=subprocess.PIPE, text=True) for name in "abc"]
    assert [writer.communicate(timeout=60)[1] for writer in writers] == [""] * 3
    cache = AnswerCache(path)
    assert [cache.get(f"{name}-{n}") for name in (*"abc", "same") for n in range(60)] == list(range(60)) * 4
    cache.close()
    assert cache.get("a-1") is None


def test_a_lone_surrogate_and_a_large_answer_are_kept(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "c.sqlite")
    value = {"text": "\ud800" + "x" * 200_000, "n": [1.5, None]}
    cache.put("k", value)
    assert cache.get("k") == value
    cache.close()
