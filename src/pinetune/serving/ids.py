"""Ids and times of what serving makes, and what its answers depend on."""

from __future__ import annotations

import hashlib
import secrets
import time

import pinetune
from pinetune.serving.directory import ServedModel


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(16)}"


def now() -> int:
    """Unix seconds."""
    return int(time.time())


def fingerprint(served: ServedModel) -> str:
    """`system_fingerprint`: changes with the weights and with the engine's version."""
    text = f"{served.base}|{served.adapter}|{pinetune.__version__}"
    return "fp_" + hashlib.sha256(text.encode()).hexdigest()[:10]
