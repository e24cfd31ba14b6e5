"""kill -9 at random moments: the same command goes on, and nothing shows in the result."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.pipelines.runner.curating import Bench, rows, write_jsonl

CHUNK = 8
ROWS = 400
KILLS = 20


def start(folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.pipelines.runner.killed", str(folder), str(log)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def bench(folder: Path) -> Bench:
    folder.mkdir()
    made = Bench(folder)
    write_jsonl(made.source, rows(ROWS))
    return made


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_ends_as_if_it_never_was(tmp_path: Path) -> None:
    whole, killed = bench(tmp_path / "whole"), bench(tmp_path / "killed")
    began = time.monotonic()
    assert start(whole.folder, tmp_path / "whole.log").wait() == 0
    seconds = time.monotonic() - began
    chooser = random.Random(0)
    log = tmp_path / "killed.log"
    kills = 0
    while kills < KILLS:
        process = start(killed.folder, log)
        try:
            # From the first import of a library to the last rename: anywhere in a whole run.
            process.wait(timeout=chooser.uniform(0.05, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kills += 1
    assert start(killed.folder, log).wait() == 0
    assert killed.export.read_bytes() == whole.export.read_bytes()
    asked = Counter(log.read_text(encoding="utf-8").splitlines())
    assert len(asked) == ROWS
    # Each kill can cost the chunk that was in flight, and no more.
    assert sum(asked.values()) - ROWS <= KILLS * CHUNK
    left = [path.name for path in killed.folder.rglob(".tmp-*")]
    assert left == []


@pytest.mark.slow
def test_only_the_chunk_in_flight_is_scored_twice(tmp_path: Path) -> None:
    killed = bench(tmp_path / "killed")
    log = tmp_path / "killed.log"
    process = start(killed.folder, log)
    while not log.exists() or len(log.read_text().splitlines()) < 11 * CHUNK + 3:
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = log.read_text(encoding="utf-8").splitlines()
    assert start(killed.folder, log).wait() == 0
    asked = log.read_text(encoding="utf-8").splitlines()
    # What was asked after the kill begins where whole chunks ended, and never looks back.
    in_flight = asked[len(before) : len(before) + CHUNK]
    assert in_flight[0] in before[-2 * CHUNK :]
    assert len(set(asked)) == ROWS
    assert len(asked) - ROWS <= CHUNK
