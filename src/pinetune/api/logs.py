"""Log lines as JSON, one object a line, each request with its id. Keys that slipped into a text are hidden."""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

SECRET = re.compile(r"(?i)\b(sk-[\w-]{8,}|whsec_[\w+/=]{8,}|bearer\s+[\w.~+/=-]{8,})|(?<=://)[^/@\s]+:[^/@\s]+(?=@)")


def masked(text: str) -> str:
    """
    >>> masked("key sk-pt-0123456789abcdef of postgresql://me:pass@host/db")
    'key [hidden] of postgresql://[hidden]@host/db'
    """
    return SECRET.sub("[hidden]", text)


class JsonLines(logging.Formatter):
    """`extra={"request": {...}}` of a record stands among the line's own keys."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower(), "logger": record.name}
        line |= getattr(record, "request", {})
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return masked(json.dumps(line, ensure_ascii=False, default=str))


def configure(level: int = logging.INFO) -> None:
    """Everything that logs in this process, to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("httpx", "httpx2", "alembic.runtime.plugins"):  # a line for each passed request would double ours
        logging.getLogger(name).setLevel(logging.WARNING)
