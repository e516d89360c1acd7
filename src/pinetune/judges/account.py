"""What judges used so far, and the limit: kept in a file, so that a resumed job remembers what it spent."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pinetune.errors import BudgetSpent
from pinetune.judges.cache import open_database
from pinetune.judges.settings import JudgeSettings

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS spent (model TEXT PRIMARY KEY, questions INTEGER, prompt_tokens INTEGER, "
    "completion_tokens INTEGER, cached_tokens INTEGER, usd REAL) WITHOUT ROWID"
)
ADD = """INSERT INTO spent VALUES (?, 1, ?, ?, ?, ?) ON CONFLICT (model) DO UPDATE SET questions = questions + 1,
prompt_tokens = prompt_tokens + excluded.prompt_tokens, completion_tokens = completion_tokens + excluded.completion_tokens,
cached_tokens = cached_tokens + excluded.cached_tokens, usd = usd + excluded.usd"""


@dataclass(frozen=True, slots=True)
class Spending:
    """Sums over all models. Answers from the cache cost nothing and are not in it."""

    questions: int
    tokens: int
    usd: float  # 0 for models without a price

    def __str__(self) -> str:
        dollars = f", ${self.usd:.2f}" if self.usd else ""
        return f"{self.questions} questions, {self.tokens:,} tokens{dollars}"


class Account:
    """Used from many threads. Questions in flight when the limit is reached are still paid: it can be passed by those."""

    def __init__(self, settings: JudgeSettings, path: Path | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection = open_database(path, SCHEMA)

    def add(self, model: str, usage: Mapping[str, int], usd: float) -> None:
        counts = (usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), usage.get("cached_tokens", 0))
        with self._lock:
            self._connection.execute(ADD, (model, *counts, usd))

    def spending(self) -> Spending:
        sql = "SELECT total(questions), total(prompt_tokens + completion_tokens), total(usd) FROM spent"
        with self._lock:
            questions, tokens, usd = self._connection.execute(sql).fetchone()
        return Spending(int(questions), int(tokens), float(usd))

    def check(self) -> None:
        """Raise BudgetSpent when a limit is reached, saying what was spent and how to go on."""
        limits = self._settings
        if limits.budget_tokens is None and limits.budget_usd is None:
            return
        spent = self.spending()
        if limits.budget_tokens is not None and spent.tokens >= limits.budget_tokens:
            raise BudgetSpent(_said(spent, f"{limits.budget_tokens:,} tokens", "judge_budget_tokens"))
        if limits.budget_usd is not None and spent.usd >= limits.budget_usd:
            raise BudgetSpent(_said(spent, f"${limits.budget_usd:.2f}", "judge_budget_usd"))

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _said(spent: Spending, limit: str, setting: str) -> str:
    return f"the judges' budget of {limit} is spent ({spent}); raise {setting} to go on"
