"""The measures of `text_similarity`: how alike two texts are, from 0 to 1. Each is the field's own library.

OpenAI names the measures but not their tokenisers or smoothing; what is chosen here, and why:

    fuzzy_match   rapidfuzz `fuzz.ratio`, letter by letter, case counts. The looser ratios of the library (partial,
                  token set) give a text that merely contains the reference a full score, so listing everything would win.
    bleu          sacrebleu, sentence level: orders up to the answer's own length, exponential smoothing
    gleu          nltk `sentence_gleu` (Wu et al. 2016), n-grams of 1 to 4
    meteor        nltk, Lavie and Agarwal 2007: same word, same stem, and where WordNet is installed, synonym.
                  By its formula one matching word alone scores 0.5 and n words in order 1 - 0.5 / n^3, never 1.
    rouge_1..5    rouge-score, F1 of n-grams, no stemming
    rouge_l       F1 of the longest common subsequence of words

bleu, gleu and meteor split words as sacrebleu does ("13a"; each Chinese character by itself where the reference
has any). rouge splits at everything that is no letter or digit, as rouge-score does, but keeps the letters of all scripts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Metric = Callable[[str, str], float]  # (answer, reference) -> 0..1

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and ideographs are written without spaces
HAS_CJK = re.compile(f"[{CJK}]")
WORDS = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")

NO_WORDNET = "without synonyms: WordNet is not installed (python -m nltk.downloader wordnet)"


def fuzzy_match() -> Metric:
    from rapidfuzz import fuzz

    ratio = fuzz.ratio
    return lambda answer, reference: ratio(answer, reference) / 100.0


def bleu() -> Metric:
    from sacrebleu.metrics import BLEU

    metrics = {name: BLEU(tokenize=name, effective_order=True) for name in ("13a", "zh")}

    def measure(answer: str, reference: str) -> float:
        metric = metrics["zh" if HAS_CJK.search(reference) else "13a"]
        return float(min(1.0, metric.sentence_score(answer, [reference]).score / 100.0))  # rounding can pass 100

    return measure


def gleu() -> Metric:
    from nltk.translate.gleu_score import sentence_gleu

    split = _splitter()

    def measure(answer: str, reference: str) -> float:
        words, expected = split(answer, reference)
        return float(sentence_gleu([expected], words))

    return measure


def meteor() -> Metric:
    from nltk.translate.meteor_score import single_meteor_score

    split, synonyms = _splitter(), _wordnet() or _NoSynonyms()

    def measure(answer: str, reference: str) -> float:
        words, expected = split(answer, reference)
        return float(single_meteor_score(expected, words, wordnet=synonyms))

    return measure


class _NoSynonyms:
    """Stands in for WordNet: every word is its own only synonym."""

    def synsets(self, word: str) -> tuple[()]:
        return ()


def _wordnet() -> Any:
    """nltk's WordNet, or None where its files are not on this machine; nothing is ever downloaded."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()  # here, because its lazy loading is not safe between grading threads
    except LookupError:
        return None
    return wordnet


def meteor_note() -> str:
    """What a reader of a METEOR score must know of this machine, or an empty string."""
    return "" if _wordnet() else NO_WORDNET


def rouge_n(n: int) -> Callable[[], Metric]:
    def build() -> Metric:
        from rouge_score.rouge_scorer import RougeScorer

        name = f"rouge{n}"
        scorer = RougeScorer([name], tokenizer=_Words())
        return lambda answer, reference: float(scorer.score(reference, answer)[name].fmeasure)

    return build


def rouge_l() -> Metric:
    from rapidfuzz.distance import LCSseq

    def measure(answer: str, reference: str) -> float:
        # rouge-score's own table is words x words of Python: a minute for two long answers. rapidfuzz finds the same length.
        words, expected = rouge_words(answer), rouge_words(reference)
        common = LCSseq.similarity(words, expected)
        return 2.0 * common / (len(words) + len(expected)) if common else 0.0

    return measure


def rouge_words(text: str) -> list[str]:
    """rouge-score's own tokens where the text is ASCII; other scripts keep their letters, Chinese one by one.

    >>> rouge_words("TSC2-gene, 21%!"), rouge_words("Straße 结节")
    (['tsc2', 'gene', '21'], ['straße', '结', '节'])
    """
    return WORDS.findall(text.lower())


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return rouge_words(text)


def _splitter() -> Callable[[str, str], tuple[Sequence[str], Sequence[str]]]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

    latin, chinese = Tokenizer13a(), TokenizerZh()

    def split(answer: str, reference: str) -> tuple[Sequence[str], Sequence[str]]:
        tokens = chinese if HAS_CJK.search(reference) else latin
        return tokens(answer).split(), tokens(reference).split()

    return split


# Each is called once when the grader is built; the libraries are imported then.
METRICS: dict[str, Callable[[], Metric]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": rouge_n(n) for n in range(1, 6)},
    "rouge_l": rouge_l,
}
