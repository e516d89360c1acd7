"""Public ids, in the hosted API's shapes: a prefix that names the kind, then letters and digits nobody can guess."""

from __future__ import annotations

import re
import secrets
import string

ALPHABET = string.ascii_letters + string.digits
SAFE = re.compile(r"[A-Za-z0-9_-]{1,100}")

FILE = "file-"
UPLOAD = "upload_"
PART = "part_"
JOB = "ftjob-"
EVENT = "ftevent-"
CHECKPOINT = "ftckpt_"
PERMISSION = "cp_"
PROJECT = "proj_"
KEY = "key_"
EVAL = "eval_"
EVAL_RUN = "evalrun_"
OUTPUT_ITEM = "outputitem_"
COMPLETION = "chatcmpl-"
RESPONSE = "resp_"
WEBHOOK = "we_"
WEBHOOK_EVENT = "evt_"

LENGTHS = {FILE: 22}  # the others: 24


def new(prefix: str) -> str:
    """A fresh id: 22 letters and digits are 131 bits, so two never meet."""
    return prefix + random_text(LENGTHS.get(prefix, 24))


def random_text(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def tuned_name(model: str, organization: str, suffix: str | None) -> str:
    """`ft:{base}:{organisation}:{suffix}:{8 characters}`; a model tuned from a tuned one carries the first base's name."""
    base = model.split(":")[1] if model.startswith("ft:") and model.count(":") >= 2 else model
    return f"ft:{base}:{organization}:{suffix or ''}:{random_text(8)}"


def checkpoint_name(tuned: str, step: int) -> str:
    return f"{tuned}:ckpt-step-{step}"
