"""A PostgreSQL server of a test's own, to be stopped and started: the one that PINETUNE_TEST_POSTGRES_URL names is everybody's."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from service_process import free_port


class PostgresServer:
    """A context: started at once, removed in the end; `url` names its database. Skips the test where no PostgreSQL is installed."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
        initdb = str(found[-1]) if found else shutil.which("initdb")
        if initdb is None:
            pytest.skip("no PostgreSQL server here (initdb); install the package postgresql")
        folder = Path(tempfile.mkdtemp())  # not below pytest's, which lets nobody else in
        self._bin, self._folder, port = Path(initdb).parent, folder, free_port()
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
        self._run(f"{self._bin}/initdb -D {folder}/data -U postgres -A trust")
        self._options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(AssertionError):  # a test that failed may have left it stopped
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        self._run(f"{self._bin}/pg_ctl -D {self._folder}/data -w -t 300 -l {self._folder}/log -o '{self._options}' start")

    def stop(self) -> None:
        """As a crash: sessions are cut, nothing is written down properly."""
        self._run(f"{self._bin}/pg_ctl -D {self._folder}/data -w -m immediate stop")

    def _run(self, command: str) -> None:
        as_whom = ["su", "postgres", "-s", "/bin/sh", "-c"] if os.geteuid() == 0 else ["/bin/sh", "-c"]
        done = subprocess.run([*as_whom, command], cwd=self._folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
