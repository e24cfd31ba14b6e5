"""A Prefect server for as long as it is needed, where none is configured.

Schedules need a server: the embedded one of a flow run does not schedule.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

from flows.prefect_settings import OFF
from pipelines.runner.errors import RunStopped

USUAL_PORT: Final = 4200
START_S: Final = 120.0  # a fresh machine creates the database first: 20 s on 2 cores
STOP_S: Final = 10.0


@contextmanager
def local_server(log: Path) -> Iterator[str]:
    """Start a server on this machine alone and yield its API address; stop it at the end.

    It keeps its database in PREFECT_HOME. Raises RunStopped when it does not come up.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **OFF, "PREFECT_API_URL": url},
            start_new_session=True,  # Ctrl-C ends our flow first, then we end the server
        )
        try:
            _wait_until_healthy(server, url, log)
            yield url
        finally:
            _stop(server)


def _free_port() -> int:
    for port in (USUAL_PORT, 0):
        with closing(socket.socket()) as probe:
            # The port of a server that has just ended is free, too.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RunStopped("There is no free port on this machine for Prefect's server.")


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise RunStopped(f"Prefect's server did not start; what it said stands in {log}.")


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
