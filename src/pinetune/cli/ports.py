"""A port of this machine for a process that another one starts, kept for it between its lives.

A port that is only looked up can be somebody else's a moment later. So who hands it out keeps a socket bound to it that does
not listen: the system then gives the port to nobody, and refuses connections while the process it is for is not there.
"""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def reserve() -> socket.socket:
    """A free port, kept as long as the socket is open."""
    kept = _shareable()
    kept.bind((HOST, 0))
    return kept


def listen(port: int) -> socket.socket:
    """A listening socket on a port that `reserve` keeps, or that is free. Raises OSError."""
    listener = _shareable()
    try:
        listener.bind((HOST, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


def _shareable() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if hasattr(socket, "SO_REUSEPORT"):  # two sockets of one user that both ask for it share a port; SO_REUSEADDR would let anybody in
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made
