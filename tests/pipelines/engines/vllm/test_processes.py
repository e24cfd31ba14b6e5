"""Whose processes an engine ends, with sleepers in place of vLLM."""

import multiprocessing
import subprocess
import sys
import time

import psutil
import pytest

from pipelines.engines.vllm.processes import VllmProcesses

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def start():
    """Starts one process as vLLM does, and hands it out; all have ended after the test."""
    spawn = multiprocessing.get_context("spawn")
    started = []

    def one(target=time.sleep, arguments=(600,)):
        process = spawn.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.join()


def test_the_processes_of_an_engine_that_is_closed_are_gone_and_no_others(start):
    before = start()
    first = VllmProcesses()
    of_first = start()
    first.find()
    of_second = start()
    first.kill()
    processes = (before, of_first, of_second)
    assert [psutil.pid_exists(process.pid) for process in processes] == [True, False, True]


def test_what_a_known_process_has_started_since_is_ended_with_it(start):
    engine = VllmProcesses()
    parent = start(subprocess.run, ([sys.executable, "-c", SLEEP],))
    engine.find()
    (worker,) = _children(parent.pid)
    engine.kill()
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def _children(pid):
    """Those of a process, when the first has started."""
    end = time.monotonic() + 30
    while not (found := psutil.Process(pid).children()) and time.monotonic() < end:
        time.sleep(0.01)
    return found
