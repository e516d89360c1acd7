"""What a browser is shown: reports. A browser has no API key to send, so it may send one as a password, for these pages only."""

from __future__ import annotations

import base64
import binascii

from fastapi import Request

# A report quotes models: whatever they wrote, the page may load its pictures and nothing else.
CAGE = {"Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; sandbox"}
ASK = {"WWW-Authenticate": 'Basic realm="Pinetune: any name, and an API key as the password"'}


def is_page(request: Request) -> bool:
    """Browsers send a password by themselves, also when another site's page asks: so it opens nothing but what is only read."""
    return request.method == "GET" and request.url.path.startswith("/v1/pinetune/") and request.url.path.endswith("/report")


def password(value: str) -> str:
    """Of the credentials of `Authorization: Basic`; "" where they cannot be read.

    >>> password("YW55OnNrLXB0LTE=")
    'sk-pt-1'
    """
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
