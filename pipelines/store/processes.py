"""Whose a file is that names its process: numbers of processes are used again."""

import os
import socket
import time
from pathlib import Path
from typing import Final

_SLACK_NS: Final = 1_000_000_000  # a start is told in hundredths of a second
_START: Final = 19  # place of the start time in /proc/<pid>/stat, behind the name in brackets


def this_machine() -> str:
    """Where the number of a process means this process: host@number of the PID namespace.

    Containers may have one name of a host (`--network host`) and yet each numbers of its own. The
    namespace is empty where the system knows none. No host has an @ in its name.
    """
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())  # pid:[4026531836]
    except OSError:
        namespace = ""
    return f"{socket.gethostname()}@{namespace.strip('pid:[]')}"


def process_alive(process: int) -> bool:
    """Whether a process of this machine (`this_machine`) runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def began_after(process: int, moment_ns: int) -> bool:
    """Whether the process of that number surely began after `moment_ns` (time.monotonic_ns).

    Then it is another one than the process that had this number at that moment. False where the
    system does not say when a process began (it has no /proc).
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        ticks = int(stat.rpartition(")")[2].split()[_START])
        # Starts are told by a clock that goes on while the machine sleeps; ours does not.
        asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    except (OSError, AttributeError, IndexError, ValueError):
        return False
    start_ns = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return start_ns - asleep_ns > moment_ns + _SLACK_NS
