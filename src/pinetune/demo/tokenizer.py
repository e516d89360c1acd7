"""The miniature's tokenizer: byte-level BPE trained on its own corpus, with a ChatML template and thinking tags.

Any text encodes (bytes are the alphabet). A gene symbol is one token and the same one everywhere, in a list after a space
as in JSON after a quote: the pre-tokenizer gives runs of capitals no leading space, so that what the model knows of a gene
is not split over two spellings. A finding of the fact table is one token too, as fixed phrases are in tokenizers with
superwords: a model of a million parameters should spend its few layers on reasoning, and every prompt gets shorter.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

NUM_MERGED = 512  # entries made by merging, the 256 bytes included
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
THINK, END_THINK = "<think>", "</think>"

# In order: gene symbols and other runs of capitals and digits; words with their leading space; numbers; what is left,
# which leaves a space before a word to the word.
SYMBOL = r"[A-Z][A-Z0-9]+(?:orf[0-9]+|-[0-9]+)?(?![a-z])"
WORD = r" ?(?:[a-z]+|[A-Z](?![A-Z0-9])[a-z]*)"
OTHER = r"[^A-Za-z0-9]+?(?= ?(?:[a-z]|[A-Z](?![A-Z0-9])|[0-9]))|[^A-Za-z0-9]+"
PIECES = rf"{SYMBOL}|{WORD}| ?[0-9]|{OTHER}|[A-Z]"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], phrases: Sequence[str] = ()) -> Any:
    """A transformers fast tokenizer trained on `texts`, with the chat template set; each of `phrases` is one token.

    Every piece that occurs twice in the corpus is a token of its own, taken whole before any merge is tried (as in Llama 3's
    tokenizer, `ignore_merges`); a few hundred merges serve the words it has never seen. Merging up to the same whole
    words would leave twice as many entries, most of them stumps.
    """
    from transformers import PreTrainedTokenizerFast

    texts = list(texts)
    merging = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_MERGED, show_progress=False, special_tokens=[PAD, START, END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    merging.train_from_iterator(texts, trainer)
    state = json.loads(merging.to_str())["model"]
    vocab: dict[str, int] = state["vocab"]
    cut = re.compile("|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True)) or r"(?!)")
    rest = (part for text in texts for part in cut.split(text))
    pieces = Counter(piece for part in rest for piece, _ in merging.pre_tokenizer.pre_tokenize_str(part))
    for piece in sorted(piece for piece, count in pieces.items() if count >= 2):
        vocab.setdefault(piece, len(vocab))
    tokenizer = _byte_level(models.BPE(vocab=vocab, merges=[tuple(pair) for pair in state["merges"]], ignore_merges=True))
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in (PAD, START, END)])
    # Not special: a decoder that drops special tokens must keep the tags that part thinking from answer.
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in (THINK, END_THINK)])
    tokenizer.add_tokens([AddedToken(phrase, special=False, normalized=False, single_word=True) for phrase in sorted(phrases)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False)
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def _byte_level(model: Any) -> Any:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
