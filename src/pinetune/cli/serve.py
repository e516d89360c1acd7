"""`pinetune serve`: the API in this process, one worker and one serving process beside it, ended together."""

from __future__ import annotations

import secrets
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from pinetune.cli import ports
from pinetune.cli.supervisor import Program, Supervisor
from pinetune.errors import UserError
from pinetune.settings import Settings

KEEP_ALIVE_SECONDS = 75  # uvicorn's 5 are also httpx's: both ends then drop an idle connection at once, and a request meets a closed one
STOP_SECONDS = 75.0  # a worker lets the step in flight take 60


def serve_command(home: Path | None, host: str | None, port: int | None) -> None:
    """Runs until Ctrl-C or SIGTERM; a running job is then checkpointed and goes back to the queue."""
    import uvicorn

    from pinetune.api.app import create_app
    from pinetune.api.logs import configure
    from pinetune.store import Store

    configure()
    settings = Settings.read(home=home, host=host, port=port)
    listener = _listen(settings.host, settings.port)
    with listener, ports.reserve() as kept, Store.open(settings) as store:
        serving_port, secret = int(kept.getsockname()[1]), secrets.token_urlsafe(24)
        app = create_app(settings, store, f"http://127.0.0.1:{serving_port}", serving_secret=secret)
        supervisor = Supervisor(_programs(settings, serving_port, secret, store))
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5, timeout_keep_alive=KEEP_ALIVE_SECONDS)
        )
        _end_on_signals(server)
        supervisor.start()
        try:
            _say_where(settings, listener.getsockname()[1])
            server.run(sockets=[listener])
        finally:
            _kill_on_signals(supervisor)
            print("Stopping: a running job ends its step and writes a checkpoint, up to a minute; Ctrl-C does not wait", flush=True)
            supervisor.stop(STOP_SECONDS)


def _programs(settings: Settings, serving_port: int, secret: str, store: Any) -> list[Program]:
    """The same settings for all; the secret by environment, where no list of processes shows it."""
    worker = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    python = [sys.executable, "-m", "pinetune"]
    environment = {
        "PINETUNE_HOME": str(settings.home),
        "PINETUNE_DATABASE_URL": settings.database_url,
        "PINETUNE_FILES_URL": settings.files_url,
    }
    asks = {**environment, "PINETUNE_SERVING_URL": f"http://127.0.0.1:{serving_port}", "PINETUNE_SERVING_SECRET": secret}  # for evals
    return [
        Program("worker", [*python, "worker", "--name", worker, "--supervised"], asks, mourn=lambda: store.abandon(worker)),
        Program("serving", [*python, "serving", "--port", str(serving_port)], {**environment, "PINETUNE_SERVING_SECRET": secret}),
    ]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port, or end what listens there") from None


def _end_on_signals(server: Any) -> None:
    """uvicorn ends on signals by itself and then raises them again: here they must find somebody who lets the rest happen."""

    def end(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _kill_on_signals(supervisor: Supervisor) -> None:
    """Whoever asks again does not want to wait for the step in flight."""

    def kill(number: int, frame: FrameType | None) -> None:
        for program in supervisor.programs:
            program.tell(signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, kill)


def _say_where(settings: Settings, port: int) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}/v1"
    print(f'Pinetune listens at {url}   use it as OpenAI(base_url="{url}", api_key="...")   home: {settings.home}', flush=True)
