"""Constrained decoding: at each step, which tokens keep the answer a prefix of something the JSON schema allows.

llguidance compiles the schema once; every answer runs a copy of the compiled state.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pinetune.errors import JobError, ModelError
from pinetune.records import JsonSchema

# Compact, spaced and indented JSON, but no endless white space: weak models fall into it where JSON allows any amount.
WHITESPACE = r"( |\n {0,24})?"
KEPT = 256  # compiled grammars: a served model sees schemas without end


class GrammarCompiler:
    """Compiles JSON schemas for one tokenizer; compiled grammars are kept."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, stop_ids: Sequence[int]) -> None:
        self.vocab_size = vocab_size
        try:
            self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocab_size, eos_token=list(stop_ids))
        except ValueError as error:
            raise ModelError(f"this model's tokenizer cannot do json_schema output ({error}): a fast tokenizer is needed") from error
        self._compiled: dict[str, Any] = {}

    def compile(self, schema: JsonSchema) -> Callable[[], Any]:
        """A maker of fresh grammar states. Raises JobError when the schema is wrong or cannot be enforced."""
        key = json.dumps(schema)  # not sorted: fields are written in the schema's order, reasons before the answer
        return self._maker(key, lambda: llguidance.LLMatcher.grammar_from_json_schema(key, overrides={"whitespace_pattern": WHITESPACE}))

    def compile_lark(self, text: str) -> Callable[[], Any]:
        """The same for a grammar in llguidance's dialect of Lark, whose `%json {...}` embeds a schema."""
        return self._maker(text, lambda: llguidance.LLMatcher.grammar_from_lark(text))

    def _maker(self, key: str, write_grammar: Callable[[], str]) -> Callable[[], Any]:
        if key not in self._compiled:
            grammar = write_grammar()
            complaint = llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer)
            if complaint:
                raise JobError(f"the JSON schema cannot be enforced: {complaint.splitlines()[0]}", param="response_format")
            if len(self._compiled) >= KEPT:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = llguidance.LLMatcher(self._tokenizer, grammar)
        prototype = self._compiled[key]
        return lambda: prototype.deep_copy()


def allowed_tokens(matchers: Sequence[Any], vocab_size: int) -> Tensor:
    """[rows, vocabulary] bool: True where the row's grammar state allows the token; None in `matchers` = all."""
    words = (vocab_size + 31) // 32
    bits = np.full((len(matchers), words), -1, dtype=np.int32)
    for row, matcher in enumerate(matchers):
        if matcher is not None:
            matcher.unsafe_compute_mask_ptr(bits[row].ctypes.data, words * 4)
    flags = np.unpackbits(bits.view(np.uint8), axis=1, bitorder="little")[:, :vocab_size]
    return torch.from_numpy(flags.view(np.bool_))
