"""How much memory the key-value cache may take, from the size of the machine and not from what is free at the moment:
the schedule of rows, and with it every rounding, must be the same in every run."""

from __future__ import annotations

import torch

from pinetune.models.load import LoadedModel
from pinetune.models.memory import machine_bytes


def cache_tokens(loaded: LoadedModel) -> int:
    """Tokens whose keys and values fill an eighth of the machine's memory, or a quarter of the GPU's."""
    config = loaded.base.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * head_dim * loaded.base.dtype.itemsize
    on_gpu = loaded.device.type == "cuda"
    room = torch.cuda.get_device_properties(loaded.device).total_memory // 4 if on_gpu else machine_bytes() // 8
    return int(max(1, room // per_token))
