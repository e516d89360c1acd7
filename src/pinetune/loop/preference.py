"""DPO jobs: pairs of answers, of which the model learns to find the better one likelier (see training.dpo)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pinetune.data.examples import Preference, load_preferences
from pinetune.errors import DataError
from pinetune.loop.supervised import checked
from pinetune.loop.text_job import TextConfig
from pinetune.models.answers import answer_tokens
from pinetune.models.load import LoadedModel, Reader
from pinetune.training.dpo import Pair, loss, weight
from pinetune.training.learner import GrpoLearner
from pinetune.training.likelihood import Score, Text, score, step

Texts = list[Text]  # preferred, rejected, preferred, rejected, ...


class Preferences:
    """See text_job.Objective."""

    rate_factor = 1.0

    def __init__(self, model: LoadedModel | Reader, files: Mapping[str, Path]) -> None:
        self._train = _texts(model, files["training_file"])
        self._valid = _texts(model, files["validation_file"]) if "validation_file" in files else []
        self.num_train, self.num_valid = len(self._train) // 2, len(self._valid) // 2
        self.longest = max(len(text) for text in [*self._train, *self._valid])

    def begin(self, loaded: LoadedModel, learner: GrpoLearner, config: TextConfig) -> None:
        """The reference's likelihoods: those of the weights as they are before any checkpoint is loaded."""
        self._loaded, self._learner, self._config = loaded, learner, config
        self._reference = self._scores(self._train)
        self._valid_reference = self._scores(self._valid)

    def update(self, rows: Sequence[int], rate: float) -> dict[str, Any]:
        texts = [text for row in rows for text in self._train[2 * row : 2 * row + 2]]
        reference = [s for row in rows for s in self._reference[2 * row : 2 * row + 2]]
        pairs, beta = _pairs(self._scores(texts), reference), self._config.beta
        pulls = [weight(pair, beta) / len(pairs) for pair in pairs]
        weights = [signed for pull in pulls for signed in (pull, -pull)]
        _, norm = step(self._loaded, texts, weights, self._learner.optimizer, rate, self._config.budget, bfloat16=self._config.bfloat16)
        numbers = _numbers(pairs, beta, "train")
        count = sum(len(text.answer_ids) for text in texts)
        return {**numbers, "grad_norm": norm, "learning_rate": rate, "trained_tokens": count}

    def measure(self) -> dict[str, Any]:
        numbers = _numbers(_pairs(self._scores(self._valid), self._valid_reference), self._config.beta, "valid")
        return {**numbers, "full_valid_loss": numbers["valid_loss"]}

    def _scores(self, texts: Texts) -> list[Score]:
        return score(self._loaded, texts, self._config.budget, bfloat16=self._config.bfloat16)


def _pairs(scores: Sequence[Score], reference: Sequence[Score]) -> list[Pair]:
    return [
        Pair(scores[i].logprob, scores[i + 1].logprob, reference[i].logprob, reference[i + 1].logprob) for i in range(0, len(scores), 2)
    ]


def _numbers(pairs: Sequence[Pair], beta: float, when: str) -> dict[str, float]:
    """`reward` is DPO's own: beta * log(p / p0)."""
    return {
        f"{when}_loss": sum(loss(pair, beta) for pair in pairs) / len(pairs),
        f"{when}_reward_accuracy": sum(pair.margin > 0 for pair in pairs) / len(pairs),
        f"{when}_reward_margin": beta * sum(pair.margin for pair in pairs) / len(pairs),
    }


def _texts(model: LoadedModel | Reader, file: Path) -> Texts:
    rows = load_preferences(file)
    if not rows:
        raise DataError(f"{file}: there is no row in it; add some")
    return [text for row in rows for text in _pair_of_texts(model, file, row)]


def _pair_of_texts(model: LoadedModel | Reader, file: Path, row: Preference) -> Texts:
    answers = (answer_tokens(model.chat, row.row, answer) for answer in (row.preferred, row.rejected))
    return [checked(Text(*answer), model, file, row.row.line) for answer in answers]
