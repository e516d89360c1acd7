"""Our own sampling engine: implements records.Sampler for a model in this process.

    sampler = LocalSampler(load_model("folder"))
    for prompt_index, sample_index, completion in sampler.sample(prompts, 8, SamplingParams(), seeds): ...

Each prompt is read once and forked into its samples; rows that finish leave the batch at once and waiting ones take
their place; completions are yielded as they finish. The schedule depends on the tokens only, never on time, so the
same seeds and inputs give the same completions, bit for bit, on CPU.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pinetune.errors import JobError, ModelError
from pinetune.models.load import LoadedModel
from pinetune.records import Completion, FinishReason, Prompt, Row, SamplingParams
from pinetune.sampling.constraints import allowed_next
from pinetune.sampling.decoder import Decoder, Session
from pinetune.sampling.draft import Draft, Rules
from pinetune.sampling.draw import draw, token_logprobs, uniforms
from pinetune.sampling.family import why_not
from pinetune.sampling.fused import FusedDecoder
from pinetune.sampling.generic import GenericDecoder
from pinetune.sampling.grammar import GrammarCompiler
from pinetune.sampling.memory import cache_tokens

Finished = tuple[int, int, Completion]


class LocalSampler:
    """See records.Sampler.

    `max_slots`: rows decoded at once. `max_kv_tokens`: tokens whose keys and values are in memory at once (prompts once,
    rows at their longest); by default an eighth of this machine's memory, or a quarter of the GPU's, full of them.
    `dtype`: precision of the fused decoder's weights and cache, by default the model's own.
    """

    def __init__(
        self, loaded: LoadedModel, *, max_slots: int = 128, max_kv_tokens: int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        self.loaded = loaded
        self.max_slots = max_slots
        self.max_kv_tokens = max_kv_tokens or cache_tokens(loaded)
        self.decoder: Decoder = pick_decoder(loaded.base, dtype)
        self.vocab_size = int(loaded.base.get_output_embeddings().weight.shape[0])
        self._grammars: GrammarCompiler | None = None

    def render(self, row: Row) -> Prompt:
        return self.loaded.chat.render(row)

    def refresh(self) -> None:
        self.decoder.refresh()

    def sample(
        self, prompts: Sequence[Prompt], num_samples: int, params: SamplingParams, seeds: Sequence[Sequence[int]]
    ) -> Iterator[Finished]:
        """See records.Sampler.sample. Raises at once, ModelError for a prompt that leaves no room in the model's context; while sampling,
        ModelError where the weights are so broken that no probabilities come out."""
        self._check_lengths(prompts, params)
        rules = Rules(params, self.loaded.chat, frozenset(self.loaded.chat.stop_ids), self._new_matcher(params))
        return _Run(self, prompts, num_samples, rules, seeds).completions()

    def _check_lengths(self, prompts: Sequence[Prompt], params: SamplingParams) -> None:
        if params.max_tokens < 1:
            raise JobError("must be at least 1", param="max_tokens")
        limit = self.loaded.context_length
        for index, prompt in enumerate(prompts):
            if not prompt.token_ids:
                raise ModelError(f"prompt {index} has no tokens")
            if limit and len(prompt.token_ids) + params.max_tokens > limit:
                raise ModelError(
                    f"prompt {index} has {len(prompt.token_ids)} tokens; with max_tokens {params.max_tokens} that is over the model's "
                    f"context of {limit}: shorten the prompt or lower max_tokens"
                )

    def _new_matcher(self, params: SamplingParams) -> Callable[[], Any] | None:
        if params.json_schema is None:
            return None
        if self._grammars is None:
            self._grammars = GrammarCompiler(self.loaded.tokenizer, self.vocab_size, self.loaded.chat.stop_ids)
        return self._grammars.compile(params.json_schema)


class _Run:
    """One call of `sample`: the waiting and the live rows, and the loop that moves them on."""

    def __init__(
        self, sampler: LocalSampler, prompts: Sequence[Prompt], num_samples: int, rules: Rules, seeds: Sequence[Sequence[int]]
    ) -> None:
        self.prompts = prompts
        self.rules = rules
        self.seeds = seeds
        self.max_slots = sampler.max_slots
        self.kv_left = sampler.max_kv_tokens
        self.device = sampler.loaded.device
        self.vocab_size = sampler.vocab_size
        self.waiting = deque((p, s) for p in range(len(prompts)) for s in range(num_samples))
        self.live: list[Draft] = []
        self.keys: dict[int, int] = {}  # prompt index -> the session's key
        self.first_logits: dict[int, Tensor] = {}
        self.undone = dict.fromkeys(range(len(prompts)), num_samples)
        self.reserved: dict[int, int] = {}  # prompt index -> cache tokens set aside for it and its rows
        longest = max((len(prompt.token_ids) for prompt in prompts), default=0)
        # Rows of one prompt that may live at once, and prompts: when rows finish at different times a prompt keeps all
        # its slots until the last is done, so at most twice as many slots as rows are spent on that.
        affordable = (self.kv_left - longest) // rules.params.max_tokens
        self.width = max(1, min(num_samples, self.max_slots, affordable))
        self.max_prompts = 2 * -(-self.max_slots // self.width)
        self.session: Session = sampler.decoder.session(longest + rules.params.max_tokens)

    def completions(self) -> Iterator[Finished]:
        while self.live or self.waiting:
            with torch.inference_mode():  # closed before each yield: the consumer's code must not run under it
                finished = self._admit()
                if self.live:
                    tokens = torch.tensor([draft.tokens[-1] for draft in self.live], device=self.device)
                    finished += self._advance(self.session.decode(tokens))
            yield from finished

    def _admit(self) -> list[Finished]:
        """Give waiting rollouts the free rows; draw their first tokens from the prompt's logits."""
        new = self._next_waiting()
        if not new:
            return []
        self._read(list(dict.fromkeys(p for p, _ in new if p not in self.keys)))
        drafts = [self._draft(p, s) for p, s in new]
        reasons = self._write(drafts, torch.stack([self.first_logits[p] for p, _ in new]))
        started = [draft for draft, reason in zip(drafts, reasons, strict=True) if not reason]
        for prompt, count in Counter(draft.place[0] for draft in started).items():
            self.session.fork(self.keys[prompt], count)
        self.live += started
        return [self._finish(draft, reason) for draft, reason in zip(drafts, reasons, strict=True) if reason]

    def _next_waiting(self) -> list[tuple[int, int]]:
        """Take as many (prompt, sample) from the queue, in its order, as rows and memory allow."""
        new: list[tuple[int, int]] = []
        alive = Counter(draft.place[0] for draft in self.live)
        while self.waiting and len(self.live) + len(new) < self.max_slots:
            prompt = self.waiting[0][0]
            if prompt not in self.reserved and not self._reserve(prompt):
                break
            if alive[prompt] == self.width:
                break
            alive[prompt] += 1
            new.append(self.waiting.popleft())
        return new

    def _reserve(self, prompt: int) -> bool:
        """Set memory aside for a prompt and its slots; False when there is none. The only prompt always gets it."""
        need = len(self.prompts[prompt].token_ids) + self.width * self.rules.params.max_tokens
        if self.reserved and (need > self.kv_left or len(self.reserved) >= self.max_prompts):
            return False
        self.reserved[prompt] = need
        self.kv_left -= need
        return True

    def _read(self, unread: list[int]) -> None:
        if unread:
            keys, logits = self.session.open([self.prompts[p].token_ids for p in unread])
            _check_finite(logits)
            self.keys.update(zip(unread, keys, strict=True))
            self.first_logits.update(zip(unread, logits, strict=True))

    def _draft(self, prompt: int, sample: int) -> Draft:
        numbers = uniforms(self.seeds[prompt][sample], self.rules.params.max_tokens).tolist()
        return Draft((prompt, sample), self.prompts[prompt], self.rules, numbers)

    def _advance(self, logits: Tensor) -> list[Finished]:
        """Write every live row's next token; rows that finished leave the batch."""
        drafts = self.live
        reasons = self._write(drafts, logits)
        if not any(reasons):
            return []
        rows = [row for row, reason in enumerate(reasons) if not reason]
        self.session.keep(rows)
        self.live = [drafts[row] for row in rows]
        finished = [self._finish(draft, reason) for draft, reason in zip(drafts, reasons, strict=True) if reason]
        if not self.waiting:
            self.session.settle()
        return finished

    def _write(self, drafts: list[Draft], logits: Tensor) -> list[FinishReason | None]:
        params = self.rules.params
        uniform = torch.tensor([draft.next_uniform() for draft in drafts], device=logits.device)
        imposed: list[int | None] = [None] * len(drafts)
        single = [False] * len(drafts)
        allowed = None
        if not self.rules.plain:
            imposed = [draft.imposed() for draft in drafts]
            allowed, single = allowed_next(drafts, self.vocab_size)
        tokens, probs = draw(logits, uniform, params.temperature, params.top_p, None if allowed is None else allowed.to(logits.device))
        if any(token is not None for token in imposed):
            tokens = torch.tensor([-1 if t is None else t for t in imposed], device=tokens.device).where(
                torch.tensor([t is not None for t in imposed], device=tokens.device), tokens
            )
        logprobs = token_logprobs(logits, probs, tokens)
        chosen, logp = torch.stack((tokens.double(), logprobs.double())).tolist()  # the step's one wait for the device
        return [draft.add(int(chosen[i]), logp[i], imposed[i] is not None or single[i]) for i, draft in enumerate(drafts)]

    def _finish(self, draft: Draft, reason: FinishReason) -> Finished:
        prompt, sample = draft.place
        self.undone[prompt] -= 1
        if self.undone[prompt] == 0:
            self.session.close(self.keys.pop(prompt))
            del self.first_logits[prompt]
            self.kv_left += self.reserved.pop(prompt)
        return prompt, sample, draft.finish(reason)


def _check_finite(logits: Tensor) -> None:
    """Without this an index error follows, and on CUDA an assertion that no later call survives."""
    if not bool(torch.logsumexp(logits, dim=-1).isfinite().all()):
        raise ModelError(
            "the model gives no probabilities for the next token (NaN or infinity), so its weights are broken; where a job made them, "
            "go back to an earlier checkpoint with a much lower learning rate"
        )


def pick_decoder(model: PreTrainedModel, dtype: torch.dtype | None = None) -> Decoder:
    """The fused decoder where it knows the architecture, else the generic one."""
    return GenericDecoder(model) if why_not(model) else FusedDecoder(model, dtype)
