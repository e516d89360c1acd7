"""`pinetune serving`: the process that holds the models, started by `pinetune serve`."""

from __future__ import annotations

import os
from typing import Any

from pinetune.cli import ports
from pinetune.cli.worker import stop_with_parent
from pinetune.settings import Settings


def serving_command(port: int) -> None:
    """On loopback; ends with the process that started it."""
    import uvicorn

    from pinetune.api.logs import configure
    from pinetune.serving.process import create_process_app
    from pinetune.store import Store

    configure()
    settings = Settings.read()
    with ports.listen(port) as listener, Store.open(settings) as store:
        app: Any = create_process_app(store, os.environ.pop("PINETUNE_SERVING_SECRET", ""), settings.home / "rerankers")
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)

        def stop() -> None:
            server.should_exit = True

        stop_with_parent(stop)
        server.run(sockets=[listener])
