"""How much memory this machine has: the size built in, not what is free at the moment, so that every run on it decides alike."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

UNKNOWN_BYTES = 8 * 1024**3  # assumed where the system does not tell (Windows)


def machine_bytes() -> int:
    """Physical memory of this machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_BYTES


def device_bytes(device: torch.device) -> int:
    """Memory of a GPU, or of the machine where the CPU computes."""
    if device.type != "cuda":
        return machine_bytes()
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)
