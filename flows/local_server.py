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

import psutil

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
    log.parent.mkdir(parents=True, exist_ok=True)
    port, server = _started(log)
    try:
        yield _address(port)
    finally:
        _stop(server)


def _started(log: Path) -> "tuple[int, subprocess.Popen[bytes]]":
    """A port and the server on it: Prefect's usual port, or a free one if another has that."""
    for port in _ports():
        server = _launched(port, log)
        try:
            if _comes_up(server, port):
                return port, server
        except BaseException:
            _stop(server)
            raise
        _stop(server)
    raise RunStopped(f"Prefect's server did not start; what it said stands in {log}.")


def _ports() -> Iterator[int]:
    """The usual port unless it is taken, then any free one.

    Another process may take a port between our look and the start of our server.
    """
    for wanted in (USUAL_PORT, 0):
        with closing(socket.socket()) as probe:
            # The port of a server that has just ended is free, too.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        yield port


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _launched(port: int, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as out:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "prefect", "server", "start"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **OFF, "PREFECT_API_URL": _address(port)},
            start_new_session=True,  # Ctrl-C ends our flow first, then we end the server
        )


def _comes_up(server: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        # A server that somebody else started meanwhile would answer on this port, too.
        if _listens(server.pid, port) and _is_healthy(port):
            return True
        time.sleep(0.2)
    return False


def _listens(process: int, port: int) -> bool:
    try:
        connections = psutil.Process(process).net_connections("tcp4")
    except psutil.Error:  # it has ended, or is about to
        return False
    return any(
        connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        for connection in connections
    )


def _is_healthy(port: int) -> bool:
    try:
        with urlopen(f"{_address(port)}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, TimeoutError, ConnectionError):
        return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
