"""Draw one token a row from logits: vectorised inverse-CDF sampling with one uniform number a row and step.

Every rollout brings its own stream of uniforms, made from its seed alone, so what it draws does not depend on which
rows share its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 512  # vocabularies above 4 blocks are searched block by block: a running sum over 150k tokens a row is slow
BELOW_ONE = 1.0 - 2.0**-23


def uniforms(seed: int, count: int) -> Tensor:
    """`count` numbers in [0, 1), float32, from a counter-based generator (Philox) keyed by the seed."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(abs(int(seed)))))
    return torch.from_numpy(generator.random(count, dtype=np.float32))


def draw(logits: Tensor, uniform: Tensor, temperature: float, top_p: float, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Tokens [R] and the full softmax at temperature 1 [R, V] from logits [R, V] float32 and uniforms [R].

    temperature 0 takes the likeliest token. `allowed` [R, V] bool limits the choice, not the returned probabilities.
    """
    probs = torch.softmax(logits, dim=-1)
    if allowed is None and temperature == 1.0 and top_p >= 1.0:
        return _inverse_cdf(probs, uniform), probs
    limited = logits if allowed is None else logits.masked_fill(~allowed, float("-inf"))
    if temperature == 0.0:
        return limited.argmax(dim=-1), probs
    weights = torch.softmax(limited / temperature, dim=-1)
    return _inverse_cdf(weights if top_p >= 1.0 else _nucleus(weights, top_p), uniform), probs


@dataclass(frozen=True, slots=True)
class Knobs:
    """How each row of a mixed batch is drawn: `temperature` and `top_p` [R] on the logits' device, and what they need."""

    temperature: Tensor
    top_p: Tensor
    greedy: bool  # some row has temperature 0
    narrow: Tensor | None  # [rows with top_p < 1]; None = no row has
    untouched: bool  # every row: temperature 1, top_p 1


def knobs(temperature: Sequence[float], top_p: Sequence[float], device: torch.device) -> Knobs:
    narrow = [row for row, share in enumerate(top_p) if share < 1.0]
    return Knobs(
        temperature=torch.tensor(temperature, dtype=torch.float32, device=device),
        top_p=torch.tensor(top_p, dtype=torch.float32, device=device),
        greedy=any(heat == 0.0 for heat in temperature),
        narrow=torch.tensor(narrow, device=device) if narrow else None,
        untouched=not narrow and all(heat == 1.0 for heat in temperature),
    )


def draw_rows(
    logits: Tensor, uniform: Tensor, how: Knobs, allowed: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `draw`, with a temperature and top_p for each row; a row draws what `draw` would draw for it alone.

    `bias` [R, V] is added to the logits before the choice; like `allowed` it does not change the returned probabilities.
    """
    probs = torch.softmax(logits, dim=-1)
    if allowed is None and bias is None and how.untouched:
        return _inverse_cdf(probs, uniform), probs
    limited = logits if bias is None else logits + bias
    limited = limited if allowed is None else limited.masked_fill(~allowed, float("-inf"))
    heat = how.temperature.masked_fill(how.temperature == 0.0, 1.0) if how.greedy else how.temperature
    weights = torch.softmax(limited / heat[:, None], dim=-1)
    if how.narrow is not None:
        weights[how.narrow] = _nucleus(weights[how.narrow], how.top_p[how.narrow, None])
    tokens = _inverse_cdf(weights, uniform)
    return (torch.where(how.temperature == 0.0, limited.argmax(dim=-1), tokens) if how.greedy else tokens), probs


def token_logprobs(logits: Tensor, probs: Tensor, tokens: Tensor) -> Tensor:
    """log p(token) [R] under the full softmax at temperature 1, exact also where p underflows."""
    index = tokens.unsqueeze(1)
    chosen = probs.gather(1, index).squeeze(1)
    if bool((chosen > 1e-30).all()):
        return chosen.log()
    return torch.log_softmax(logits, dim=-1).gather(1, index).squeeze(1)


def _nucleus(weights: Tensor, top_p: float | Tensor) -> Tensor:
    """Keep the fewest likeliest tokens whose weights reach top_p (Holtzman et al. 2020); the likeliest always stays."""
    ordered, order = weights.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(weights).scatter_(1, order, ordered)


def _inverse_cdf(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first token whose running sum exceeds uniform times the total; tokens of weight 0 are never drawn."""
    rows, vocabulary = weights.shape
    if vocabulary <= 4 * BLOCK:
        return _search(weights.cumsum(dim=-1), uniform)[0]
    block_size = math.gcd(vocabulary, BLOCK)
    if block_size < BLOCK // 8:  # an odd vocabulary: a padded copy costs less than many small blocks
        block_size = BLOCK
        weights = torch.nn.functional.pad(weights, (0, -vocabulary % BLOCK))
    blocks = weights.view(rows, -1, block_size)
    sums = blocks.sum(dim=-1).cumsum(dim=-1)
    block, target = _search(sums, uniform)
    before = torch.nn.functional.pad(sums, (1, 0)).gather(1, block.unsqueeze(1)).squeeze(1)
    inside = blocks[torch.arange(rows, device=weights.device), block].cumsum(dim=-1)
    # Rounding can leave the remainder outside the block's own total: bring it back.
    rest = torch.minimum(target - before, inside[:, -1] * BELOW_ONE).clamp_min(0.0)
    return block * block_size + torch.searchsorted(inside, rest.unsqueeze(1), right=True).squeeze(1)


def _search(running: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    total = running[:, -1]
    target = torch.minimum(uniform * total, total * BELOW_ONE)
    return torch.searchsorted(running, target.unsqueeze(1), right=True).squeeze(1), target
