"""Which tokens the grammars of several drafts allow next, as one mask for the batch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pinetune.sampling.draft import Draft
from pinetune.sampling.grammar import allowed_tokens


def allowed_next(drafts: Sequence[Draft], vocab_size: int) -> tuple[Tensor | None, list[bool]]:
    """[rows, vocabulary] bool on the CPU, None when no row is limited; and for each row whether no choice is left."""
    matchers = [draft.grammar() for draft in drafts]
    if all(matcher is None for matcher in matchers):
        return None, [False] * len(drafts)
    allowed = allowed_tokens(matchers, vocab_size)
    for row, draft in enumerate(drafts):
        if (tag := draft.opening_allowed) is not None:
            allowed[row, tag] = True
    stop_ids = list(drafts[0].rules.stop_ids)
    dead = ~allowed.any(dim=1)
    if bool(dead.any()):  # a grammar that got stuck (llguidance's own limits): the answer ends as it is
        for stop in stop_ids:
            allowed[dead, stop] = True
    # No choice is left where one token is allowed, or where the answer is complete and only stopping is.
    count, stops = allowed.sum(dim=1), allowed[:, stop_ids].sum(dim=1)
    return allowed, ((count == 1) | (count == stops)).tolist()
