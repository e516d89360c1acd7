"""Supervised jobs: the likelihood of the assistant's messages, averaged over their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pinetune.data.examples import load_dialogues
from pinetune.errors import DataError
from pinetune.loop.text_job import TextConfig
from pinetune.models.answers import trained_answers
from pinetune.models.load import LoadedModel, Reader
from pinetune.records import Row
from pinetune.training.learner import GrpoLearner
from pinetune.training.likelihood import Score, Text, score, step


class Supervised:
    """See text_job.Objective. A row with several trained messages is several texts, all in the row's batch."""

    rate_factor = 10.0  # given answers pull all the same way; rewards are noise in comparison

    def __init__(self, model: LoadedModel | Reader, files: Mapping[str, Path]) -> None:
        self._train = texts_of(model, load_dialogues(files["training_file"]), files["training_file"])
        valid = files.get("validation_file")
        self._valid = texts_of(model, load_dialogues(valid), valid) if valid else []
        self.num_train, self.num_valid = len(self._train), len(self._valid)
        self.longest = max(len(text) for row in [*self._train, *self._valid] for text in row)

    def begin(self, loaded: LoadedModel, learner: GrpoLearner, config: TextConfig) -> None:
        self._loaded, self._learner, self._config = loaded, learner, config

    def update(self, rows: Sequence[int], rate: float) -> dict[str, Any]:
        texts = [text for row in rows for text in self._train[row]]
        num_tokens = sum(len(text.answer_ids) for text in texts)
        config = self._config
        weights = [1 / num_tokens] * len(texts)
        scores, norm = step(self._loaded, texts, weights, self._learner.optimizer, rate, config.budget, bfloat16=config.bfloat16)
        loss, accuracy = means(scores)
        return {
            "train_loss": loss,
            "train_mean_token_accuracy": accuracy,
            "grad_norm": norm,
            "learning_rate": rate,
            "trained_tokens": num_tokens,
        }

    def measure(self) -> dict[str, Any]:
        texts = [text for row in self._valid for text in row]
        loss, accuracy = means(score(self._loaded, texts, self._config.budget, bfloat16=self._config.bfloat16))
        return {
            "valid_loss": loss,
            "valid_mean_token_accuracy": accuracy,
            "full_valid_loss": loss,
            "full_valid_mean_token_accuracy": accuracy,
        }


def means(scores: Sequence[Score]) -> tuple[float, float]:
    """(negative log-likelihood, accuracy) a token."""
    count = sum(s.num_tokens for s in scores)
    return -sum(s.logprob for s in scores) / count, sum(s.num_correct for s in scores) / count


def texts_of(model: LoadedModel | Reader, rows: Sequence[Row], file: Path) -> list[list[Text]]:
    """The trained answers of each row. Raises DataError naming file and line of those that the model cannot read whole."""
    if not rows:
        raise DataError(f"{file}: there is no row in it; add some")
    return [[checked(Text(*answer), model, file, row.line) for answer in trained_answers(model.chat, row)] for row in rows]


def checked(text: Text, model: LoadedModel | Reader, file: Path, line: int) -> Text:
    limit = model.context_length
    if limit and len(text) > limit:
        raise DataError(f"{file}:{line}: messages: {len(text):,} tokens, and the model reads {limit:,}; shorten the row or leave it out")
    return text
