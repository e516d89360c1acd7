"""The fast decoder: our own forward pass for the Llama family, with few calls a token and every prompt stored once.

A step costs about 16 tensor operations a layer. Rows sit in slots: slot (g, j) is the j-th row of prompt g. The linear
layers run over the live rows only; attention runs over all slots of a prompt at once, as one product of all their
queries with the prompt's keys and one of each query with the slot's own keys, under a single softmax.
Shapes: G prompts, W slots a prompt, H heads, K key-value heads, D head size, R live rows, T own tokens, L prompt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from pinetune.sampling.family import Layer, Shape, Weights, shape_of, take_weights
from pinetune.sampling.slots import Slots, Step

PREFILL_TOKENS = 4096  # prompt tokens read in one pass: bounds the activations


class FusedDecoder:
    """See decoder.Decoder. `dtype` is the precision of weights, activations and cache (default: the model's own)."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
        self._model = model
        self._dtype = dtype or model.dtype
        self.shape: Shape = shape_of(model)
        self.refresh()

    def session(self, max_tokens: int) -> FusedSession:
        return FusedSession(self.shape, self.weights, max_tokens)

    def refresh(self) -> None:
        with torch.inference_mode():
            self.weights: Weights = take_weights(self._model, self._dtype)


class FusedSession:
    """See decoder.Session."""

    def __init__(self, shape: Shape, weights: Weights, max_tokens: int) -> None:
        self._shape = shape
        self._weights = weights
        self._slots = Slots(shape, weights.embedding.dtype)
        angles = torch.arange(max_tokens + 1, device=shape.device).float()[:, None] * weights.inv_freq
        # [positions, 1, D/2] complex: rotating a head is one complex product, as its pairs lie next to each other.
        self._rotation = torch.polar(torch.full_like(angles, weights.rope_scale), angles).unsqueeze(1)

    def open(self, prompts: Sequence[Sequence[int]]) -> tuple[list[int], Tensor]:
        keys = self._slots.add_prompts([len(prompt) for prompt in prompts])
        logits = [self._read(chunk) for chunk in _chunks(list(zip(keys, prompts, strict=True)))]
        return keys, torch.cat(logits)

    def fork(self, key: int, count: int) -> None:
        self._slots.fork(key, count)

    def keep(self, rows: Sequence[int]) -> None:
        self._slots.keep(rows)

    def close(self, key: int) -> None:
        self._slots.close(key)

    def settle(self) -> None:
        self._slots.shrink()

    def decode(self, tokens: Tensor) -> Tensor:
        step = self._slots.next_step()
        rotation = self._rotation[step.positions]
        x = self._weights.embedding[tokens]
        for index, layer in enumerate(self._weights.layers):
            qkv = self._qkv(layer, x, rotation)
            x = layer.output.plus(self._attend(index, qkv, step), x)
            x = self._mlp(layer, x)
        return self._logits(x)

    # ---- the parts of a block

    def _qkv(self, layer: Layer, x: Tensor, rotation: Tensor) -> Tensor:
        """[rows, H + 2K, D]: queries and keys normed and rotated, values."""
        shape = self._shape
        rotated = shape.heads + shape.kv_heads
        qkv = layer.qkv(self._norm(x, layer.attention_norm)).view(x.shape[0], rotated + shape.kv_heads, shape.head_dim)
        qk = qkv[:, :rotated]
        if layer.qk_norm is not None:
            torch.mul(functional.rms_norm(qk, (shape.head_dim,), None, shape.eps), layer.qk_norm, out=qk)
        if qk.dtype == torch.float32:
            torch.view_as_complex(qk.view(*qk.shape[:2], -1, 2)).mul_(rotation)
        else:  # torch has no complex bfloat16
            pairs = torch.view_as_complex(qk.float().view(*qk.shape[:2], -1, 2))
            qk.copy_(torch.view_as_real(pairs * rotation).flatten(2))
        return qkv

    def _mlp(self, layer: Layer, x: Tensor) -> Tensor:
        normed = self._norm(x, layer.mlp_norm)
        return layer.down.plus(layer.up.times(normed, layer.gate.silu(normed)), x)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), weight, self._shape.eps)

    def _logits(self, x: Tensor) -> Tensor:
        return self._weights.head(self._norm(x, self._weights.norm)).float()

    # ---- attention of one new token a row

    def _attend(self, index: int, qkv: Tensor, step: Step) -> Tensor:
        """Store the new keys and values of this layer; return [rows, H * D]."""
        shape, slots = self._shape, self._slots
        size, width = len(slots.lengths) * shape.kv_heads, slots.width
        own = slots.own_kv[index]
        own.view(-1, shape.head_dim)[step.write] = qkv[:, shape.heads :]
        keys, values = own.view(2, size * width, slots.room, shape.head_dim)[:, :, : step.own_tokens].unbind(0)
        prompt_keys, prompt_values = slots.prompt_kv[index].flatten(1, 2)[:, :, : step.prompt_tokens].unbind(0)

        queries = self._to_slots(qkv[:, : shape.heads], step.slots)  # [G * K, W * H/K, D]
        rows = width * shape.repeat
        scores = torch.bmm(queries, prompt_keys.transpose(1, 2))
        own_scores = torch.bmm(queries.view(-1, shape.repeat, shape.head_dim), keys.transpose(1, 2))
        scores = torch.cat((scores, own_scores.view(size, rows, step.own_tokens)), dim=-1)
        if step.mask is not None:
            scores.view(-1, shape.kv_heads, width, shape.repeat, scores.shape[-1]).add_(step.mask)
        weights = torch.softmax(scores, dim=-1)
        output = torch.bmm(weights[:, :, : step.prompt_tokens], prompt_values).view(-1, shape.repeat, shape.head_dim)
        output.baddbmm_(weights[:, :, step.prompt_tokens :].view(-1, shape.repeat, step.own_tokens), values)
        return self._to_rows(output, step.slots)

    def _to_slots(self, queries: Tensor, slots: Tensor | None) -> Tensor:
        """[R, H, D] in row order -> [G * K, W * H/K, D]; free slots get zeros."""
        shape, width = self._shape, self._slots.width
        prompts = len(self._slots.lengths)
        if slots is not None:
            spread = queries.new_zeros(prompts * width, shape.heads, shape.head_dim)
            queries = spread.index_copy_(0, slots, queries)
        split = queries.reshape(prompts, width, shape.kv_heads, shape.repeat, shape.head_dim)
        # One query head a key-value head: reshape may then return a strided view, which the callers' own views cannot cut further.
        return split.transpose(1, 2).reshape(prompts * shape.kv_heads, width * shape.repeat, shape.head_dim).contiguous()

    def _to_rows(self, output: Tensor, slots: Tensor | None) -> Tensor:
        """The way back: [G * K * W, H/K, D] -> [R, H * D]."""
        shape, width = self._shape, self._slots.width
        split = output.view(-1, shape.kv_heads, width, shape.repeat, shape.head_dim)
        rows = split.transpose(1, 2).reshape(-1, shape.heads * shape.head_dim)
        return rows if slots is None else rows.index_select(0, slots)

    # ---- prompts

    def _read(self, chunk: list[tuple[int, Sequence[int]]]) -> Tensor:
        """Run the prompts (key, tokens) through the model, keep their keys and values; the last tokens' logits [P, V].

        The linear layers see the tokens of all prompts in one row, without padding; attention pads on the right,
        where the causal mask hides it.
        """
        device = self._shape.device
        lengths = torch.tensor([len(prompt) for _, prompt in chunk])
        places = torch.tensor([self._slots.places[key] for key, _ in chunk], device=device)
        tokens = torch.tensor([token for _, prompt in chunk for token in prompt], device=device)
        positions = torch.cat([torch.arange(int(length)) for length in lengths]).to(device)
        longest = int(lengths.max())
        padded = (
            (torch.arange(len(chunk)).repeat_interleave(lengths).to(device) * longest + positions)
            if len(set(lengths.tolist())) > 1
            else None
        )
        rotation = self._rotation[positions]
        x = self._weights.embedding[tokens]
        last = (lengths.cumsum(0) - 1).to(device)
        for index, layer in enumerate(self._weights.layers):
            attended = self._attend_prompts(index, self._qkv(layer, x, rotation), places, longest, padded)
            if index == len(self._weights.layers) - 1:
                attended, x = attended[last], x[last]  # only the last tokens' logits are wanted
            x = self._mlp(layer, layer.output.plus(attended, x))
        return self._logits(x)

    def _attend_prompts(self, index: int, qkv: Tensor, places: Tensor, longest: int, padded: Tensor | None) -> Tensor:
        shape = self._shape
        whole = qkv
        if padded is not None:
            whole = qkv.new_zeros(len(places) * longest, *qkv.shape[1:]).index_copy_(0, padded, qkv)
        whole = whole.view(len(places), longest, *qkv.shape[1:]).transpose(1, 2)
        q, k, v = whole.split((shape.heads, shape.kv_heads, shape.kv_heads), dim=1)
        self._slots.prompt_kv[index, 0, places, :, :longest] = k
        self._slots.prompt_kv[index, 1, places, :, :longest] = v
        # The softmax scale is already in the queries.
        output = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=shape.repeat > 1)
        rows = output.transpose(1, 2).reshape(-1, shape.heads * shape.head_dim)
        return rows if padded is None else rows[padded]


def _chunks(prompts: list[tuple[int, Sequence[int]]]) -> list[list[tuple[int, Sequence[int]]]]:
    """Prompts (key, tokens) in batches of about PREFILL_TOKENS."""
    chunks: list[list[tuple[int, Sequence[int]]]] = []
    room = 0
    for prompt in prompts:
        if not chunks or len(prompt[1]) > room:
            chunks.append([])
            room = PREFILL_TOKENS
        chunks[-1].append(prompt)
        room -= len(prompt[1])
    return chunks
