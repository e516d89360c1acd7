"""`text_similarity`: each measure by hand on a few words, and what it does with other scripts, long texts and no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from pinetune.errors import GraderError, GradingFailed
from pinetune.graders import text_metrics
from pinetune.graders.build import build_grader
from pinetune.graders.options import Services
from pinetune.graders.text_metrics import METRICS, NO_WORDNET
from pinetune.records import Completion, Grade, Row

A, B = "the cat sat on the mat", "the cat sat on a mat"


@pytest.fixture(autouse=True)
def no_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values must not depend on the corpora of the machine that runs the tests."""
    monkeypatch.setattr(text_metrics, "_wordnet", lambda: None)


def measure(metric: str, answer: str, reference: str, services: Services | None = None) -> Grade:
    definition = {
        "type": "text_similarity",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "evaluation_metric": metric,
    }
    grader = build_grader(definition, services=services)
    return grader.grade(Completion((), (), (), "stop", answer), Row(0, (), {"answer": reference}))


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "value"),
    [
        ("fuzzy_match", "TSC2", "TSC1", 0.75),  # 3 letters of 4 in common: 2 * 3 / 8
        ("fuzzy_match", "TSC2", "TSC2", 1.0),
        ("fuzzy_match", "tsc2", "TSC2", 0.25),  # case counts
        ("fuzzy_match", "A, B, C, TSC2", "TSC2", 2 * 4 / 17),  # naming everything is no full match
        ("fuzzy_match", "", "", 1.0),
        ("fuzzy_match", "", "TSC2", 0.0),
        ("bleu", A, B, (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
        ("bleu", "cat", "cat", 1.0),  # an answer of one word has orders up to 1
        ("bleu", "the cat", "the cat sat on", 2.718281828459045**-1.0),  # brevity penalty: exp(1 - 4 / 2)
        ("bleu", "dog", "cat", 0.0),
        ("gleu", A, B, 11 / 18),  # 5 + 3 + 2 + 1 of 6 + 5 + 4 + 3 n-grams
        ("gleu", "the cat", "the cat sat", 3 / 6),
        ("gleu", "", "cat", 0.0),
        ("meteor", "the cat sat", "the cat sat", 1 - 0.5 / 27),  # one chunk of three words
        ("meteor", "Cats", "cat", 0.5),  # the same stem; one word is one chunk: 1 - 0.5
        ("meteor", "sat cat", "cat sat", 0.5),  # two chunks of two words: 1 - 0.5
        ("meteor", "the cat", "the cat sat on", (1 - 0.5 / 8) * 0.5 / 0.95),  # P 1, R 0.5: PR / (0.9 P + 0.1 R)
        ("meteor", "dog", "cat", 0.0),
        ("rouge_1", A, B, 5 / 6),
        ("rouge_2", A, B, 3 / 5),
        ("rouge_3", A, B, 2 / 4),
        ("rouge_4", A, B, 1 / 3),
        ("rouge_5", A, B, 0.0),
        ("rouge_5", "the cat sat on the", A, 2 * 1 * 0.5 / 1.5),  # P 1, R 1 of 2
        ("rouge_l", A, B, 5 / 6),
        ("rouge_l", "sat the cat", "the cat sat", 2 / 3),
        ("rouge_l", "The CAT!", "the cat", 1.0),
        ("rouge_1", "", "", 0.0),
        ("rouge_l", "", "", 0.0),
    ],
)
def test_values_by_hand(metric: str, answer: str, reference: str, value: float) -> None:
    grade = measure(metric, answer, reference)
    assert grade.status == "ok"
    assert grade.value == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "value"),
    [("rouge_1", 10 / 11), ("rouge_2", 6 / 9), ("rouge_l", 10 / 11), ("gleu", 9 / 18), ("fuzzy_match", 10 / 11), ("meteor", 162 / 171)],
)
def test_chinese_is_compared_character_by_character(metric: str, value: float) -> None:
    # 5 characters of the reference are in the 6 of the answer, in two chunks; P 5/6, R 1
    expected = value if metric != "meteor" else (1 - 0.5 * (2 / 5) ** 3) * (5 / 6) / (0.9 * 5 / 6 + 0.1)
    assert measure(metric, "结节性硬化症", "结节硬化症").value == pytest.approx(expected, abs=1e-12)


def test_words_keep_the_letters_of_all_scripts() -> None:
    assert measure("rouge_1", "Größe: ОДИН", "größe один").value == 1.0


@given(st.text("ab c_1.-T", max_size=40), st.text("ab c_1.-T", max_size=40))
def test_rouge_is_rouge_score_on_ascii(answer: str, reference: str) -> None:
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"]).score(reference, answer)
    for name, key in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        assert METRICS[name]()(answer, reference) == pytest.approx(theirs[key].fmeasure, abs=1e-12)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_two_texts_have_a_value_from_0_to_1(answer: str, reference: str) -> None:
    for name in METRICS:
        assert 0.0 <= METRICS[name]()(answer, reference) <= 1.0


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_long_and_odd_texts_end(metric: str) -> None:
    words = " ".join(f"word{i}" for i in range(10_000))
    value = METRICS[metric]()
    assert value(words, words) == pytest.approx(1.0, abs=1e-9)
    for odd in ("y" * 50_000, "(" * 20_000, "\ud800 \0", "\n" * 20_000):
        assert 0.0 <= value(odd, "a cat") <= 0.01 or metric == "fuzzy_match"


def test_meteor_says_that_wordnet_is_absent() -> None:
    assert measure("meteor", "cat", "cat").explanation == NO_WORDNET
    assert measure("bleu", "cat", "cat").explanation == ""


def test_meteor_counts_synonyms_where_wordnet_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lemma:
        def name(self) -> str:
            return "lynx"

    class Synset:
        def lemmas(self) -> list[Lemma]:
            return [Lemma()]

    class Thesaurus:
        def synsets(self, word: str) -> list[Synset]:
            return [Synset()] if word == "cat" else []

    monkeypatch.setattr(text_metrics, "_wordnet", Thesaurus)
    grade = measure("meteor", "cat", "lynx")
    assert (grade.value, grade.explanation) == (0.5, "")


def embed(vectors: dict[str, Any]) -> Services:
    def vectors_of(texts: Sequence[str], model: str) -> Sequence[Sequence[float]]:
        assert model == "text-embedding-3-large"
        return [vectors[text] for text in texts]

    return Services(embed=vectors_of)


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [("a", "b", 24 / 25), ("a", "a", 1.0), ("a", "c", 0.0), ("a", "", 0.0), (" ", "", 1.0)],
)
def test_cosine(answer: str, reference: str, value: float) -> None:
    grade = measure("cosine", answer, reference, embed({"a": [3.0, 4.0], "b": [4.0, 3.0], "c": [-3.0, -4.0]}))
    assert (grade.status, grade.value) == ("ok", pytest.approx(value, abs=1e-12))


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ({"a": [1.0], "b": [1.0, 2.0]}, "no two vectors of one length, but [1, 2]"),
        ({"a": [0.0], "b": [1.0]}, "a vector of length zero"),
        ({"a": [float("nan")], "b": [1.0]}, "not finite"),
    ],
)
def test_bad_vectors_are_no_value(vectors: dict[str, Any], said: str) -> None:
    grade = measure("cosine", "a", "b", embed(vectors))
    assert (grade.status, grade.error_kind) == ("error", "other_error")
    assert said in grade.explanation


def test_an_embedding_service_that_fails_is_no_value() -> None:
    def fails(texts: Sequence[str], model: str) -> Sequence[Sequence[float]]:
        raise GradingFailed("model_grader_server_error", "the embeddings endpoint answered 503")

    grade = measure("cosine", "a", "b", Services(embed=fails))
    assert (grade.status, grade.error_kind, grade.explanation) == (
        "error",
        "model_grader_server_error",
        "the embeddings endpoint answered 503",
    )


def test_cosine_without_embeddings_is_refused() -> None:
    with pytest.raises(GraderError, match=r"^grader\.evaluation_metric: cosine needs text embeddings and none are configured; set PIN"):
        measure("cosine", "a", "b")


def test_a_missing_variable_is_no_value() -> None:
    grader = build_grader({"type": "text_similarity", "input": "{{ item.x }}", "reference": "r", "evaluation_metric": "bleu"})
    grade = grader.grade(Completion((), (), (), "stop", "a"), Row(0, (), {}))
    assert (grade.status, grade.error_kind) == ("error", "invalid_variable_error")
