"""The processes that one vLLM engine consists of, so that none of them is left behind.

vLLM ends its engine's process, and kills it when it is in the middle of a long step; a worker of
that process ends its step first, seconds or minutes later, and holds its memory as long.
"""

import multiprocessing
from contextlib import suppress

import psutil

_DEATH_S = 10.0


class VllmProcesses:
    """Made before vLLM starts: what this process starts from then on is the engine's."""

    def __init__(self) -> None:
        self._others = set(multiprocessing.active_children())
        self._found: set[psutil.Process] = set()

    def find(self) -> None:
        """Notes those that run now; a worker whose parent is gone can be found no more.

        While vLLM starts and right after it: later, other engines may have begun.
        """
        for child in set(multiprocessing.active_children()) - self._others:
            with suppress(psutil.NoSuchProcess):  # it has just ended
                process = psutil.Process(child.pid)
                self._found |= {process, *process.children(recursive=True)}

    def kill(self) -> None:
        """Ends those that are left; comes back when they are gone."""
        for process in list(self._found):
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                self._found |= set(process.children(recursive=True))
        for process in self._found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(self._found, timeout=_DEATH_S)
