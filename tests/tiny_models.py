"""Tiny models for tests: random weights of a real architecture and a real byte-level BPE tokenizer with a chat template.

    folder = save_tiny(tmp_path / "model")                 # Qwen3, ChatML template; opens with from_pretrained
    model, tokenizer = make_model("llama"), make_tokenizer("llama3")

Everything is made by code in milliseconds and depends on the seed only.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

TEXT = (
    "The quick brown fox jumps over the lazy dog. Which gene could cause this? A patient with seizures, ataxia and "
    'short stature. Explain the answer as JSON: {"genes": ["ABC1", "XYZ2"], "explanation": "because"}. '
    "You are a helpful assistant. What is two plus two? The answer is four. One, two, three, 0123456789."
)

CHATML = """{%- if tools %}{{- '<|im_start|>system\\nTools: ' + tools|tojson + '<|im_end|>\\n' }}{%- endif %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
LLAMA3 = """{{- bos_token }}
{%- if tools %}{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + tools|tojson + '<|eot_id|>' }}{%- endif %}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content + '<|eot_id|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""
GEMMA = """{{- bos_token }}{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' + message.content + '<end_of_turn>\\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""

# name: (template, special tokens, bos, eos). The eos differs from the end of turn in "llama3" and "gemma", as it does in the originals.
TEMPLATES: dict[str, tuple[str, list[str], str | None, str]] = {
    "chatml": (CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),
    "chatml-open": (
        CHATML.replace("assistant\\n' }}{%- endif %}", "assistant\\n<think>\\n' }}{%- endif %}"),
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        None,
        "<|im_end|>",
    ),
    "chatml-text": (CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, "<|im_end|>"),  # thinking tags are mere text
    "llama3": (
        LLAMA3,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "<|begin_of_text|>",
        "<|end_of_text|>",
    ),
    "gemma": (GEMMA, ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>"),
}

MODELS: dict[str, tuple[type[Any], type[PreTrainedModel]]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}


@lru_cache
def _tokenizer_json(template: str) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_special_tokens(TEMPLATES[template][1])
    # As in Qwen3: the thinking tags are single tokens, but not special (they stay in the decoded text).
    if template != "chatml-text":
        tokenizer.add_tokens(["<think>", "</think>"])
    return str(tokenizer.to_str())


def make_tokenizer(template: str = "chatml") -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (about 350 tokens) with the chat template of that name (see TEMPLATES)."""
    text, specials, bos, eos = TEMPLATES[template]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json(template)),
        bos_token=bos,
        eos_token=eos,
        pad_token=specials[0],
        chat_template=text,
    )


def make_model(kind: str = "qwen3", *, vocab_size: int = 384, seed: int = 0, scale: float = 0.12, **config: Any) -> PreTrainedModel:
    """Random weights, fp32, eval mode: 2 layers of 32, 4 heads over 2 key-value heads. `config` overrides any field.

    `scale` is the standard deviation of the weights: large enough that the next-token distribution is far from flat.
    """
    config_class, model_class = MODELS[kind]
    fields: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "initializer_range": scale,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if kind == "mistral":
        fields["sliding_window"] = None
    torch.manual_seed(seed)
    model = model_class(config_class(**{**fields, **config}))
    with torch.no_grad():  # norm weights away from 1 and biases away from 0, so that forgetting either fails a test
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith(".bias"):
                parameter.normal_(std=0.2)
    return model.eval()


def save_tiny(folder: Path, kind: str = "qwen3", template: str = "chatml", *, seed: int = 0, **config: Any) -> Path:
    """Write a tiny model with its tokenizer as a Hugging Face folder and return it."""
    tokenizer = make_tokenizer(template)
    eos, bos, pad = tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id
    model = make_model(kind, seed=seed, **{"eos_token_id": eos, "bos_token_id": bos, "pad_token_id": pad, **config})
    model.generation_config = GenerationConfig(eos_token_id=eos, bos_token_id=bos, pad_token_id=pad)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
