"""Key-value memory of the fused decoder: one place for each prompt, one slot for each of its rows.

Shapes: G prompts, W slots a prompt, K key-value heads, D head size, R live rows, L prompt tokens, T own tokens.
Buffers start small and grow; a slot that falls free is taken by the next row, and `shrink` moves the live
ones together when no more rows are to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pinetune.sampling.family import Shape

FIRST_TOKENS = 64  # own tokens that a new buffer has room for


@dataclass(slots=True)
class RowPlace:
    """Where a live row sits and how many own tokens it has stored."""

    prompt: int
    slot: int
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What every layer needs to know of the present step."""

    positions: Tensor  # [R] index of the new token in its sequence
    write: Tensor  # [R, 2K] rows of the layer's flat own buffer that take the new keys, then the new values
    slots: Tensor | None  # [R] flat slot g * W + j of each row; None when row r sits in slot r and no slot is free
    mask: Tensor | None  # [G, 1, W, 1, L + T] added to the scores; None when every slot may see everything
    prompt_tokens: int  # L
    own_tokens: int  # T, with the new token


class Slots:
    """Bookkeeping of prompts, rows and their buffers; knows nothing of weights."""

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        self.shape = shape
        self.dtype = dtype
        self.rows: list[RowPlace] = []
        self.lengths: list[int] = []  # of the prompt in each place; 0 = the place is free
        self.places: dict[int, int] = {}  # key of a prompt -> its place
        self._next_key = 0
        self.width = 1
        self.room = FIRST_TOKENS  # T the own buffer has room for
        self.prompt_kv = self._zeros(shape.layers, 2, 0, shape.kv_heads, 1, shape.head_dim)
        self.own_kv = self._new_own()
        self._step: Step | None = None
        self._own_tokens = torch.empty(0)

    # ---- prompts

    def add_prompts(self, lengths: Sequence[int]) -> list[int]:
        """Find a free place for each prompt of these lengths; return their keys, which stay when places change."""
        free = [place for place, length in enumerate(self.lengths) if not length]
        if len(free) < len(lengths):
            self._resize(prompts=len(self.lengths) - len(free) + len(lengths))
            free = [place for place, length in enumerate(self.lengths) if not length]
        if max(lengths) > self.prompt_kv.shape[4]:
            old = self.prompt_kv
            self.prompt_kv = self._zeros(*old.shape[:4], max(lengths), old.shape[5])
            self.prompt_kv[:, :, :, :, : old.shape[4]] = old
        places = free[: len(lengths)]
        for place, length in zip(places, lengths, strict=True):
            self.lengths[place] = length
        keys = list(range(self._next_key, self._next_key + len(places)))
        self._next_key += len(places)
        self.places.update(zip(keys, places, strict=True))
        self._step = None
        return keys

    def close(self, key: int) -> None:
        self.lengths[self.places.pop(key)] = 0
        self._step = None

    # ---- rows

    def fork(self, key: int, count: int) -> None:
        prompt = self.places[key]
        taken = {row.slot for row in self.rows if row.prompt == prompt}
        if len(taken) + count > self.width:
            self._resize(width=len(taken) + count)
        free = [slot for slot in range(self.width) if slot not in taken]
        self.rows += [RowPlace(prompt, slot) for slot in free[:count]]
        self._step = None

    def keep(self, rows: Sequence[int]) -> None:
        self.rows = [self.rows[row] for row in rows]
        self._step = None

    def shrink(self) -> None:
        """Halve what is at least half empty; called when no more rows are to come."""
        widest = max((sum(row.prompt == p for row in self.rows) for p in range(len(self.lengths))), default=0)
        if self.rows and (2 * widest <= self.width or 2 * len(self.places) <= len(self.lengths)):
            self._resize(prompts=len(self.places), width=widest, together=True)

    # ---- steps

    def next_step(self) -> Step:
        """Where the next token of each row goes and what it may see."""
        longest = max(row.tokens for row in self.rows) + 1
        if longest > self.room:
            self._resize(room=2 * self.room)
        if self._step is None:
            self._step = self._first_step(longest)
        else:
            self._step.positions.add_(1)
            self._step.write.add_(1)
            mask = self._mask(longest, self._step.prompt_tokens) if self._step.mask is not None else None
            self._step = Step(self._step.positions, self._step.write, self._step.slots, mask, self._step.prompt_tokens, longest)
        for row in self.rows:
            row.tokens += 1
        return self._step

    def _first_step(self, longest: int) -> Step:
        device, heads, width, room = self.shape.device, self.shape.kv_heads, self.width, self.room
        prompt = torch.tensor([row.prompt for row in self.rows])
        slot = torch.tensor([row.slot for row in self.rows])
        tokens = torch.tensor([row.tokens for row in self.rows])
        lengths = torch.tensor(self.lengths)
        keys = ((prompt[:, None] * heads + torch.arange(heads)) * width + slot[:, None]) * room + tokens[:, None]
        write = torch.cat((keys, keys + len(self.lengths) * heads * width * room), dim=1)
        flat = prompt * width + slot
        in_order = torch.equal(flat, torch.arange(len(self.lengths) * width))
        self._own_tokens = torch.zeros(len(self.lengths) * width, dtype=torch.int64).index_put((flat,), tokens).to(device)
        used = {self.lengths[row.prompt] for row in self.rows}
        prompt_tokens = max(used)
        even = len(used) == 1 and len({row.tokens for row in self.rows}) == 1
        return Step(
            positions=(lengths[prompt] + tokens).to(device),
            write=write.to(device),
            slots=None if in_order else flat.to(device),
            mask=None if even else self._first_mask(longest, prompt_tokens),
            prompt_tokens=prompt_tokens,
            own_tokens=longest,
        )

    def _first_mask(self, longest: int, prompt_tokens: int) -> Tensor:
        # A free place shows one key, so that its (unused) rows stay finite.
        lengths = torch.tensor([max(length, 1) for length in self.lengths])
        hidden = torch.arange(prompt_tokens) >= lengths[:, None]
        bias = torch.zeros(len(self.lengths), prompt_tokens).masked_fill_(hidden, float("-inf"))
        self._prompt_mask = bias[:, None].expand(-1, self.width, -1).to(self.shape.device, self.dtype)
        return self._mask(longest, prompt_tokens, fresh=True)

    def _mask(self, longest: int, prompt_tokens: int, fresh: bool = False) -> Tensor:
        if not fresh:
            self._own_tokens.add_(1)
        hidden = torch.arange(longest, device=self.shape.device) > self._own_tokens[:, None]
        own = torch.zeros(hidden.shape, dtype=self.dtype, device=self.shape.device).masked_fill_(hidden, float("-inf"))
        mask = torch.cat((self._prompt_mask, own.view(len(self.lengths), self.width, longest)), dim=-1)
        return mask.view(len(self.lengths), 1, self.width, 1, prompt_tokens + longest)

    # ---- memory

    def _resize(self, prompts: int = 0, width: int = 0, room: int = 0, *, together: bool = False) -> None:
        """Move every live row to buffers of another size; `together` also moves prompts and slots to the first places."""
        old_own, old_prompts, old_lengths = self.own_kv, self.prompt_kv, self.lengths
        used = max((row.tokens for row in self.rows), default=0)
        source = [(row.prompt, row.slot) for row in self.rows]
        places = {p: p for p in range(len(old_lengths))}
        if together:
            places = {p: i for i, p in enumerate(sorted(self.places.values()))}
            self.places = {key: places[place] for key, place in self.places.items()}
            self._renumber(places)
        count = prompts or len(old_lengths)
        self.lengths = [0] * count
        for old, new in places.items():
            self.lengths[new] = old_lengths[old]
        self.width, self.room = width or self.width, room or self.room
        if count != len(old_lengths):
            self.prompt_kv = self._zeros(*old_prompts.shape[:2], count, *old_prompts.shape[3:])
            self.prompt_kv[:, :, list(places.values())] = old_prompts[:, :, list(places)]
        self.own_kv = self._new_own()
        for (prompt, slot), row in zip(source, self.rows, strict=True):
            self.own_kv[:, :, row.prompt, :, row.slot, :used] = old_own[:, :, prompt, :, slot, :used]
        self._step = None

    def _renumber(self, places: dict[int, int]) -> None:
        """Give the rows of each prompt, in row order, its first slots."""
        counts: dict[int, int] = {}
        moved = []
        for row in self.rows:
            slot = counts.get(row.prompt, 0)
            counts[row.prompt] = slot + 1
            moved.append(RowPlace(places[row.prompt], slot, row.tokens))
        self.rows = moved

    def _new_own(self) -> Tensor:
        shape = self.shape
        return self._zeros(shape.layers, 2, len(self.lengths), shape.kv_heads, self.width, self.room, shape.head_dim)

    def _zeros(self, *size: int) -> Tensor:
        # Zeros, not empty: a masked score times a NaN left in memory would still be NaN.
        return torch.zeros(size, dtype=self.dtype, device=self.shape.device)
