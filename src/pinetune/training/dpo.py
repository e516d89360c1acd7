"""Direct preference optimisation: from log-likelihoods of pairs to the loss and the weight of each answer's gradient.

Rafailov et al. 2023, "Direct Preference Optimization" (arXiv 2305.18290), equation 7:

    loss = -log sigmoid(beta * margin),   margin = log p(w|x)/p0(w|x) - log p(l|x)/p0(l|x)

p is the model, p0 the model as it was before training, w the preferred and l the other answer. Its gradient (their equation
after 7) is that of `-c * (log p(w|x) - log p(l|x))` with c = beta * sigmoid(-beta * margin).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """Log-likelihoods of one row: of the model for preferred and rejected, then of the reference for both."""

    preferred: float
    rejected: float
    reference_preferred: float
    reference_rejected: float

    @property
    def margin(self) -> float:
        return (self.preferred - self.reference_preferred) - (self.rejected - self.reference_rejected)


def loss(pair: Pair, beta: float) -> float:
    """
    >>> round(loss(Pair(-1.0, -2.0, -1.0, -2.0), 0.1), 6)  # not moved yet: log 2
    0.693147
    """
    x = beta * pair.margin
    return math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x)) - x


def weight(pair: Pair, beta: float) -> float:
    """How strongly the pair pulls: beta * sigmoid(-beta * margin), from beta (all wrong) to 0 (settled).

    >>> weight(Pair(-1.0, -2.0, -1.0, -2.0), 0.1)
    0.05
    """
    x = beta * pair.margin
    return beta / (1 + math.exp(x)) if x < 0 else beta * math.exp(-x) / (1 + math.exp(-x))
