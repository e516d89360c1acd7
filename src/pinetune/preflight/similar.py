"""Texts that are nearly the same, all of them and exactly.

Similarity is Jaccard's over words and pairs of neighbouring words, each weighted by how rare it is (log(N / rows that have it)), so
that an instruction all rows share counts nothing. Pairs are found by prefix filtering (Bayardo, Ma & Srikant, WWW 2007): two texts
that are alike enough must share one of their rarest features. Nothing is hashed away, so nothing is missed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

ALIKE = (
    0.65  # of 1,300 published cases 4 pairs lie above, all look-alikes; a word, a number or a sentence changed stays above (docs/check.md)
)
WORD = re.compile(r"\w+")


def near_duplicates(texts: Sequence[str], threshold: float = ALIKE) -> list[tuple[int, int, float]]:
    """(i, j, similarity) with i < j for all pairs of at least `threshold`, texts with the same words included, in order of j.

    >>> [(i, j) for i, j, _ in near_duplicates(["a red fox runs off", "a blue cat", "a red fox runs off now", "two green dogs"], 0.5)]
    [(0, 2)]
    """
    features = [_features(text) for text in texts]
    spread = Counter(feature for of_text in features for feature in of_text)
    weights = {feature: math.log((len(texts) + 1) / count) for feature, count in spread.items()}
    rarest_first = [sorted(of_text, key=lambda f: (-weights[f], f)) for of_text in features]
    totals = [sum(weights[f] for f in of_text) for of_text in features]
    holders: dict[str, list[int]] = defaultdict(list)  # feature -> earlier texts that have it in their prefix
    found = []
    for j, ordered in enumerate(rarest_first):
        prefix = _prefix(ordered, weights, threshold * totals[j])
        for i in sorted({i for feature in prefix for i in holders[feature]}):
            if min(totals[i], totals[j]) < threshold * max(totals[i], totals[j]):
                continue
            shared = sum(weights[f] for f in features[i] & features[j])
            union = totals[i] + totals[j] - shared
            alike = shared / union if union > 0 else 1.0
            if alike >= threshold:
                found.append((i, j, alike))
        for feature in prefix:
            holders[feature].append(j)
    return found


def _features(text: str) -> frozenset[str]:
    words = WORD.findall(text.casefold())
    return frozenset([*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))])


def _prefix(ordered: Sequence[str], weights: dict[str, float], enough: float) -> list[str]:
    """The rarest features, so many that all the others together weigh less than `enough`."""
    left = sum(weights[f] for f in ordered)
    prefix = []
    for feature in ordered:
        if left < enough:
            break
        prefix.append(feature)
        left -= weights[feature]
    return prefix
