"""Lists of endpoints that page badly, and how long an endpoint may ask to wait."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import pytest

from pinetune.errors import UserError
from pinetune.transfer.endpoint import Endpoint, retry_after


class Canned(Endpoint):
    """Answers from a list of replies, and remembers what it was asked."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        super().__init__("http://127.0.0.1:9/v1", "none", rate=0)
        self.replies, self.asked = list(replies), list[dict[str, Any]]()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        self.asked.append(query)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def page(*ids: str, more: bool) -> dict[str, Any]:
    return {"data": [{"id": id} for id in ids], "has_more": more}


def test_pages_follow_the_last_id() -> None:
    canned = Canned(page("a", "b", more=True), page("c", more=False))
    assert [entry["id"] for entry in canned.list("/evals", order="asc")] == ["a", "b", "c"]
    assert canned.asked == [{"limit": 100, "order": "asc"}, {"limit": 100, "after": "b", "order": "asc"}]


def test_an_endpoint_that_ignores_the_cursor_does_not_go_on_for_ever() -> None:
    assert [entry["id"] for entry in Canned(page("a", "b", more=True)).list("/files")] == ["a", "b"]


@pytest.mark.parametrize("reply", [{}, {"data": None}, {"data": []}, {"data": ["x", 3]}, {"data": [], "has_more": True}])
def test_odd_lists_are_empty(reply: dict[str, Any]) -> None:
    assert Canned(reply).list("/files") == []


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after({"retry-after": "120"}) == 120.0
    assert retry_after({"retry-after": "9", "retry-after-ms": "1500"}) == 1.5
    assert retry_after({}) is None and retry_after({"retry-after": "soon"}) is None
    later = email.utils.formatdate(time.time() + 3600, usegmt=True)
    assert 3500 < (retry_after({"retry-after": later}) or 0) <= 3600
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0.0


def test_addresses() -> None:
    assert Endpoint("https://user:secret@api.example:8443/v1/", "k").name == "https://api.example:8443/v1"
    assert Endpoint("http://[::1]:9/v1", "k").name == "http://[::1]:9/v1"
    for wrong in ("api.openai.com/v1", "ftp://x/v1", "https:///v1"):
        with pytest.raises(UserError, match="is no http address"):
            Endpoint(wrong, "k")
