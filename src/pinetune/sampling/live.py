"""Continuous batching for serving: requests join a running batch and leave it one by one, each under its own rules.

    batch = LiveBatch(loaded, decoder)
    written = batch.join([order, ...])            # reads the prompts, draws the first tokens
    while batch.rows: written = batch.step()      # one more token for every row

LocalSampler is for training, where all completions share their rules. Here temperature, stop strings, grammar and seed
belong to the order. An order draws the tokens that LocalSampler draws for the same prompt, parameters and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pinetune.models.load import LoadedModel
from pinetune.records import Completion, FinishReason, Prompt, SamplingParams
from pinetune.sampling.constraints import allowed_next
from pinetune.sampling.decoder import Decoder, Session
from pinetune.sampling.draft import Draft, Rules
from pinetune.sampling.draw import Knobs, draw_rows, knobs, token_logprobs, uniforms
from pinetune.sampling.memory import cache_tokens

UNKNOWN_CONTEXT = 32_768  # for models that do not state theirs


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One prompt and how many completions of it are wanted, one for each seed."""

    prompt: Prompt
    params: SamplingParams
    seeds: tuple[int, ...]
    new_matcher: Callable[[], Any] | None = None  # grammar state of a fresh answer; `params.json_schema` is not read here
    top_logprobs: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    frequency_penalty: float = 0.0  # taken off a token's logit for each time the completion has written it
    presence_penalty: float = 0.0  # taken off once when it has

    @property
    def bends(self) -> bool:
        return bool(self.logit_bias) or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0


@dataclass(frozen=True, slots=True)
class Written:
    """One token of one completion. `completion` is there with the last one."""

    order: Order
    sample: int
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # the likeliest tokens with their log-probs
    completion: Completion | None


@dataclass(slots=True, eq=False)
class LiveRow:
    order: Order
    draft: Draft
    key: int  # the session's key of its prompt


class LiveBatch:
    """`max_rows` decode at once; `max_kv_tokens` bounds the keys and values in memory (see sampling.memory)."""

    def __init__(self, loaded: LoadedModel, decoder: Decoder, *, max_rows: int = 64, max_kv_tokens: int | None = None) -> None:
        self.loaded = loaded
        self.decoder = decoder
        self.max_rows = max_rows
        self.max_kv_tokens = max_kv_tokens or cache_tokens(loaded)
        self.vocab_size = int(loaded.base.get_output_embeddings().weight.shape[0])
        self.rows: list[LiveRow] = []
        self._left: dict[int, int] = {}  # key of a prompt -> rows still to finish
        self._session: Session | None = None
        self._knobs: Knobs | None = None

    def fits(self, order: Order, others: Sequence[Order] = ()) -> bool:
        """Whether rows and memory suffice for `order` beside the live rows and `others`. An empty batch takes anything."""
        if not self.rows and not others:
            return True
        orders = [*{id(row.order): row.order for row in self.rows}.values(), *others, order]
        count = len(self.rows) + sum(len(other.seeds) for other in [*others, order])
        # Slots are a rectangle: every prompt gets as many as the widest order, each as long as the longest.
        slots = len(orders) * max(len(other.seeds) for other in orders)
        own = max(other.params.max_tokens for other in orders)
        prompt = max(len(other.prompt.token_ids) for other in orders)
        return count <= self.max_rows and slots * own + len(orders) * prompt <= self.max_kv_tokens

    def join(self, orders: Sequence[Order]) -> list[Written]:
        """Read the prompts of these orders and draw the first token of each of their completions."""
        with torch.inference_mode():
            if self._session is None:
                self._session = self.decoder.session(self.loaded.context_length or UNKNOWN_CONTEXT)
            keys, logits = self._session.open([order.prompt.token_ids for order in orders])
            rows = [LiveRow(o, self._draft(o, i), key) for o, key in zip(orders, keys, strict=True) for i in range(len(o.seeds))]
            self._left.update({key: len(order.seeds) for order, key in zip(orders, keys, strict=True)})
            source = torch.tensor([i for i, order in enumerate(orders) for _ in order.seeds], device=logits.device)
            written = self._write(rows, logits[source], self._how(rows))
            going = [row for row, one in zip(rows, written, strict=True) if one.completion is None]
            for key in keys:
                if count := sum(row.key == key for row in going):
                    self._session.fork(key, count)
            self.rows += going
            self._knobs = None
            self._close_done(rows, written)
            return written

    def step(self) -> list[Written]:
        """Write the next token of every live row."""
        if not self.rows or self._session is None:
            return []
        with torch.inference_mode():
            if self._knobs is None:
                self._knobs = self._how(self.rows)
            tokens = torch.tensor([row.draft.tokens[-1] for row in self.rows], device=self.loaded.device)
            rows = self.rows
            written = self._write(rows, self._session.decode(tokens), self._knobs)
            self._keep([i for i, one in enumerate(written) if one.completion is None])
            self._close_done(rows, written)
            return written

    def leave(self, order: Order) -> None:
        """Drop the rows of an order nobody waits for any more."""
        with torch.inference_mode():
            gone = [row for row in self.rows if row.order is order]
            self._keep([i for i, row in enumerate(self.rows) if row.order is not order])
            for row in gone:
                self._one_done(row.key)
            self._settle()

    def clear(self) -> None:
        """Forget everything; after an error inside a step, whose memory can be in any state."""
        self.rows, self._left, self._session, self._knobs = [], {}, None, None

    def _draft(self, order: Order, sample: int) -> Draft:
        chat = self.loaded.chat
        rules = Rules(order.params, chat, frozenset(chat.stop_ids), order.new_matcher)
        return Draft((0, sample), order.prompt, rules, uniforms(order.seeds[sample], order.params.max_tokens).tolist())

    def _how(self, rows: Sequence[LiveRow]) -> Knobs:
        params = [row.order.params for row in rows]
        return knobs([p.temperature for p in params], [p.top_p for p in params], self.loaded.device)

    def _write(self, rows: Sequence[LiveRow], logits: Tensor, how: Knobs) -> list[Written]:
        drafts = [row.draft for row in rows]
        uniform = torch.tensor([draft.next_uniform() for draft in drafts], device=logits.device)
        imposed: list[int | None] = [None if draft.rules.plain else draft.imposed() for draft in drafts]
        allowed, single = allowed_next(drafts, self.vocab_size)
        allowed = self._held(drafts, allowed)
        allowed = None if allowed is None else allowed.to(logits.device)
        tokens, probs = draw_rows(logits, uniform, how, allowed, self._bias(rows, logits))
        if any(token is not None for token in imposed):
            wanted = torch.tensor([-1 if token is None else token for token in imposed], device=tokens.device)
            tokens = torch.where(wanted >= 0, wanted, tokens)
        logprobs = token_logprobs(logits, probs, tokens)
        chosen, logp = torch.stack((tokens.double(), logprobs.double())).tolist()
        tops = self._tops(rows, logits)
        written = []
        for i, row in enumerate(rows):
            reason = row.draft.add(int(chosen[i]), logp[i], imposed[i] is not None or single[i])
            written.append(self._written(row, int(chosen[i]), logp[i], tops[i], reason))
        return written

    def _held(self, drafts: Sequence[Draft], allowed: Tensor | None) -> Tensor | None:
        """Who asked for JSON gets JSON: no stop token while the thinking goes on. In training a model may stop there, and learns not to."""
        owing = [i for i, draft in enumerate(drafts) if draft.owes_answer]
        if not owing:
            return allowed
        allowed = torch.ones(len(drafts), self.vocab_size, dtype=torch.bool) if allowed is None else allowed
        for stop in drafts[owing[0]].rules.stop_ids:
            allowed[owing, stop] = False
        return allowed

    def _written(
        self, row: LiveRow, token: int, logprob: float, top: tuple[tuple[int, float], ...], reason: FinishReason | None
    ) -> Written:
        completion = row.draft.finish(reason) if reason else None
        return Written(row.order, row.draft.place[1], token, logprob, top, completion)

    def _bias(self, rows: Sequence[LiveRow], logits: Tensor) -> Tensor | None:
        if not any(row.order.bends for row in rows):
            return None
        bias = torch.zeros_like(logits)
        for i, row in enumerate(rows):
            order = row.order
            for token, value in order.logit_bias.items():
                bias[i, token] += value
            if order.frequency_penalty or order.presence_penalty:
                count = torch.bincount(torch.tensor(row.draft.tokens, dtype=torch.int64), minlength=logits.shape[1]).to(logits.device)
                bias[i] -= order.frequency_penalty * count + order.presence_penalty * (count > 0)
        return bias

    def _tops(self, rows: Sequence[LiveRow], logits: Tensor) -> list[tuple[tuple[int, float], ...]]:
        tops: list[tuple[tuple[int, float], ...]] = [()] * len(rows)
        asking = [i for i, row in enumerate(rows) if row.order.top_logprobs]
        if asking:
            count = min(max(rows[i].order.top_logprobs for i in asking), self.vocab_size)
            values, ids = torch.log_softmax(logits[asking], dim=-1).topk(count, dim=-1)
            for i, value, token in zip(asking, values.tolist(), ids.tolist(), strict=True):
                tops[i] = tuple(zip(token, value, strict=True))[: rows[i].order.top_logprobs]
        return tops

    def _keep(self, places: list[int]) -> None:
        if len(places) < len(self.rows) and self._session is not None:
            self._session.keep(places)
            self.rows = [self.rows[place] for place in places]
            self._knobs = None

    def _close_done(self, rows: Sequence[LiveRow], written: Sequence[Written]) -> None:
        done = [row for row, one in zip(rows, written, strict=True) if one.completion is not None]
        for row in done:
            self._one_done(row.key)
        if done:
            self._settle()

    def _one_done(self, key: int) -> None:
        self._left[key] -= 1
        if self._left[key] == 0 and self._session is not None:
            del self._left[key]
            self._session.close(key)

    def _settle(self) -> None:
        if not self.rows:
            self._session = None  # an idle model keeps weights only
        elif self._session is not None:
            self._session.settle()
