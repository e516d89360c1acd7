"""A port kept for a process: nobody else gets it, and it is refused while nobody listens."""

from __future__ import annotations

import socket

import pytest

from pinetune.cli import ports


def test_a_kept_port_is_for_its_process_only() -> None:
    with ports.reserve() as kept:
        port = kept.getsockname()[1]
        with pytest.raises(OSError), socket.create_server(("127.0.0.1", port)):
            pass
        for _ in range(2):  # the process dies and comes back
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            with ports.listen(port) as listener, socket.create_connection(("127.0.0.1", port)) as client:
                accepted, _ = listener.accept()
                with accepted:
                    accepted.sendall(b"x")
                    assert client.recv(1) == b"x"


def test_a_port_of_somebody_else_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        ports.listen(taken.getsockname()[1])
