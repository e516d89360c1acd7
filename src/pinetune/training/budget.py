"""How many packed tokens a micro-batch may hold, from the size of the model and of the machine.

From what is built in, not from what is free at the moment: the cut of the micro-batches, and with it every rounding, must be the
same when a run is resumed.
"""

from __future__ import annotations

import torch

from pinetune.models.load import LoadedModel
from pinetune.models.memory import machine_bytes

# On a CPU a small micro-batch stays in the caches; a GPU wants to be filled.
CPU_TOKENS, GPU_TOKENS = 4096, 16384
FEWEST_TOKENS = 256
SHARE = 4  # activations may take a quarter of the memory; weights, gradients and optimizer need the rest


def default_token_budget(loaded: LoadedModel) -> int:
    """Packed tokens computed at once: the device's usual number, or as many as fit into a quarter of its memory."""
    on_gpu = loaded.device.type == "cuda"
    memory = torch.cuda.get_device_properties(loaded.device).total_memory if on_gpu else machine_bytes()
    return fitting_tokens(activation_bytes(loaded), memory, GPU_TOKENS if on_gpu else CPU_TOKENS)


def fitting_tokens(bytes_per_token: int, memory: int, usual: int) -> int:
    """At most `usual` tokens, fewer where they would fill more than a quarter of `memory` bytes.

    >>> fitting_tokens(2_500_000, 8 * 1024**3, 4096)
    858
    """
    return max(FEWEST_TOKENS, min(usual, memory // SHARE // max(1, bytes_per_token)))


def activation_bytes(loaded: LoadedModel) -> int:
    """Bytes of activations that the backward pass keeps for one token, float32.

    Counted per layer as 12 vectors of the hidden size and 3 of the MLP's: for a Qwen2.5-0.5B that gives 2.4 MB a token, and 4,096
    tokens were seen to take 9 to 10 GB.
    """
    config = loaded.base.config.get_text_config()
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    return int(config.num_hidden_layers) * (12 * hidden + 3 * inner) * 4
