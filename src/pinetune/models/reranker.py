"""A reranker: a model's backbone with a head of two labels on the last token, which says how likely an answer is to be correct.

    reranker = new_reranker(load_model("model"), seed=0); ...train...; reranker.save("reranker", settings)
    open_reranker("reranker").score_group(group)      # one probability a rollout

An outcome reward model as in ReFT section 4.4 (arXiv 2401.08967) and Cobbe et al. 2021. The folder is an ordinary Hugging Face one:
`AutoModelForSequenceClassification.from_pretrained` opens it and gives the same scores.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pinetune.errors import ModelError
from pinetune.models.chat import ChatFormat
from pinetune.models.export import whole_folder
from pinetune.models.load import LoadedModel, pick_device, prepared, quiet, told
from pinetune.models.renaming import Renaming
from pinetune.records import Group, Row

LABELS = {0: "wrong", 1: "correct"}
SETTINGS = "reranker.json"
RENAMINGS = 4
BATCH_TOKENS = 8192  # of one forward pass without gradient


class Reranker:
    """Scores answers. `settings` is what reranker.json holds: how and on what it was trained."""

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, settings: Mapping[str, Any] | None = None) -> None:
        self.model = prepared(model)
        self.chat = chat
        self.tokenizer = chat.tokenizer
        self.settings = dict(settings or {})
        self.max_tokens = int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def tokens(self, row: Row, reasoning: str, answer: str) -> list[int]:
        """Prompt, thinking, answer and stop token, spelled from the text: rollouts that were kept as text and those just sampled
        look alike. Of a text longer than the model reads the end is kept."""
        return self.text(row, reasoning, answer)[0]

    def text(self, row: Row, reasoning: str, answer: str) -> tuple[list[int], int]:
        """`tokens`, and the place of the answer's first one, after prompt and thinking: before it nothing can be right or wrong."""
        prompt, tags = self.chat.render(row), self.chat.thinking
        opening = "" if prompt.thinking_open else f"{tags.open}\n"
        words = f"{opening}{reasoning}\n{tags.close}\n\n{answer}" if reasoning or prompt.thinking_open else answer
        spelled = self.tokenizer.encode(words, add_special_tokens=False)
        ids = [*prompt.token_ids, *spelled, self.chat.stop_ids[0]][-self.max_tokens :]
        # Counted from the end: where thinking and answer meet, one token may belong to both.
        after = min(len(spelled), len(self.tokenizer.encode(answer, add_special_tokens=False)))
        return ids, max(0, len(ids) - 1 - after)

    def logits(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Log-odds of "correct" of each text, float32 [N]; with gradient where that is on."""
        ids, mask = padded(texts, int(self.model.config.pad_token_id), self.device)
        logits_N2 = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        return logits_N2[:, 1] - logits_N2[:, 0]

    def scores(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """The probability of "correct" of each text, in the given order."""
        found = [0.0] * len(texts)
        with torch.inference_mode():
            for places in by_length([len(text) for text in texts], BATCH_TOKENS):
                chances = torch.sigmoid(self.logits([texts[i] for i in places])).tolist()
                for place, chance in zip(places, chances, strict=True):
                    found[place] = chance
        return found

    def score_answers(self, row: Row, answers: Sequence[tuple[str, str]]) -> list[float]:
        """One score an answer to `row`; each is (reasoning, answer). Where it was trained on exchanged names, the mean over RENAMINGS of
        them, the same for all answers."""
        names = self.settings.get("names")
        if not names:
            return self.scores([self.tokens(row, reasoning, answer) for reasoning, answer in answers])
        renaming = Renaming(names)
        texts = [
            self.tokens(*renaming(row, reasoning, answer, random.Random(seed)))
            for seed in range(RENAMINGS)
            for reasoning, answer in answers
        ]
        scores = self.scores(texts)
        return [fmean(scores[i :: len(answers)]) for i in range(len(answers))]

    def score_group(self, group: Group) -> list[float]:
        """One score a rollout."""
        return self.score_answers(group.row, [(r.completion.reasoning, r.completion.answer) for r in group.rollouts])

    def save(self, folder: str | Path, settings: Mapping[str, Any]) -> Path:
        """Weights, tokenizer and reranker.json, whole or not at all."""
        with quiet(), whole_folder(folder) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            # A classifier has no generation_config, where a model keeps the token that ends its turn.
            kept = {"stop_id": self.chat.stop_ids[0], **settings}
            (temporary / SETTINGS).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        self.settings = kept
        return Path(folder)


def new_reranker(loaded: LoadedModel, *, seed: int = 0) -> Reranker:
    """The backbone of `loaded` (adapters merged in) with a fresh head; `loaded` itself is not touched. Trained weights are float32.

    Raises ModelError where transformers has no classifier of this architecture.
    """
    base = copy.deepcopy(loaded.model).merge_and_unload() if loaded.is_lora else loaded.base
    config = copy.deepcopy(base.config)
    config.num_labels, config.id2label, config.label2id = len(LABELS), dict(LABELS), {name: i for i, name in LABELS.items()}
    # A classifier reads the last token that is no padding, found by this id: an id that ends answers would hide their end.
    config.pad_token_id = _padding(loaded.tokenizer, loaded.chat.stop_ids)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    except ValueError as error:
        kind = type(base).__name__
        raise ModelError(
            f"{loaded.source}: transformers has no sequence classifier for {kind}; train the reranker on another base"
        ) from error
    weights = {name: value.detach().float() for name, value in base.base_model.state_dict().items()}
    model.base_model.load_state_dict(weights)
    return Reranker(model.to(loaded.device), loaded.chat)


def open_reranker(folder: str | Path, *, device: str = "auto") -> Reranker:
    """device "auto" is CUDA if present, else CPU. Raises ModelError where the folder holds no reranker."""
    path = Path(folder)
    if not (path / SETTINGS).is_file():
        raise ModelError(f"{path} holds no reranker (no {SETTINGS}); make one: pinetune rerank train")
    with quiet(), told(str(path)):
        config = AutoConfig.from_pretrained(path)
        model = AutoModelForSequenceClassification.from_pretrained(path, config=config, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path)
        settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
    chat = ChatFormat(tokenizer, generation_eos=[settings["stop_id"]] if "stop_id" in settings else [], source=str(path))
    return Reranker(model.to(pick_device(device)), chat, settings)


def padded(texts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded on the right. [N, T] each"""
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *([pad] * (width - len(text)))] for text in texts], device=device)
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts], device=device)
    return ids, mask


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of texts in batches of similar length, at most `budget` tokens with padding (one text at least)."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[place] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _padding(tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> int:
    known = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
    return next((int(token) for token in known if token is not None and token not in stops), 0)
