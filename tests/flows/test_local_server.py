"""A Prefect server that is started for a run is that run's own."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

# Prints where the server keeps its data, asked at the address that it was given.
STARTED = """
import json, sys
from pathlib import Path
from urllib.request import urlopen
from flows import local_server

local_server.USUAL_PORT = int(sys.argv[1])
with local_server.local_server(Path(sys.argv[2])) as api:
    settings = json.load(urlopen(f"{api}/admin/settings"))
    print(json.dumps({"api": api, "home": settings["home"]}), flush=True)
    sys.stdin.read()
"""


def started(port: int, home: Path) -> "subprocess.Popen[str]":
    foreign = {name for name in os.environ if name.startswith("PREFECT_")}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    return subprocess.Popen(
        [sys.executable, "-c", STARTED, str(port), str(home / "server.log")],
        env={**environment, "PREFECT_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_that_start_at_once_each_get_their_own(tmp_path: Path) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    homes = [tmp_path / "one", tmp_path / "another"]

    processes = [started(port, home) for home in homes]
    try:
        told = [json.loads(process.stdout.readline()) for process in processes if process.stdout]
    finally:
        for process in processes:
            process.communicate(timeout=60)

    assert [said["home"] for said in told] == [str(home) for home in homes]
    assert told[0]["api"] != told[1]["api"]
