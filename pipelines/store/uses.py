"""What an unfinished run or audit holds on to, so that `gc` leaves it alone.

    runs/<run id>/uses-<machine>-<pid>.json     machine, process, tables, scores: of one process
    audits/<id>/uses-<machine>-<pid>.json       the same

A run that is finished says in its manifest what it needs. Before that nothing would say so: a call
that scores for three days must not lose the parts of its first day.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from pipelines.store.atomic import write_bytes
from pipelines.store.manifest import dump
from pipelines.store.processes import began_after, process_alive, this_machine

PATTERN = "uses-*.json"


@dataclass(frozen=True)
class Uses:
    """tables and scores: keys. Rows that stages create on the way are not known beforehand.

    moment_ns: when it was noted (time.monotonic_ns).
    """

    noted: Path
    machine: str
    process: int
    moment_ns: int
    tables: frozenset[str]
    scores: frozenset[str]

    def lives(self, alive: Callable[[int], bool]) -> bool:
        """Whether its process runs on this machine; one of another machine cannot be asked."""
        return (
            self.machine == this_machine()
            and alive(self.process)
            and not began_after(self.process, self.moment_ns)
        )


def note_uses(folder: Path, tables: Sequence[str], scores: Sequence[str]) -> None:
    """Say that this process works in the folder (of a run or an audit), with these keys.

    A later call takes the place of an earlier one; other processes' notes stay.
    """
    content = {
        "machine": this_machine(),
        "process": os.getpid(),
        "moment_ns": time.monotonic_ns(),
        "tables": list(tables),
        "scores": sorted({key for key in scores if key}),
    }
    write_bytes(_own(folder), dump(content))


def drop_uses(folder: Path) -> None:
    """Say that what was begun in the folder is finished.

    Takes this process' note away, and those of processes of this machine that are gone.
    """
    _own(folder).unlink(missing_ok=True)
    for uses in read_uses(folder):
        if uses.machine == this_machine() and not uses.lives(process_alive):
            uses.noted.unlink(missing_ok=True)


def read_uses(folder: Path) -> list[Uses]:
    """What each process has noted in the folder."""
    found = []
    for path in sorted(folder.glob(PATTERN)):
        try:
            noted = orjson.loads(path.read_bytes())
        except FileNotFoundError:  # its process has just ended
            continue
        tables, scores = frozenset(noted["tables"]), frozenset(noted["scores"])
        owner = (noted["machine"], noted["process"], noted["moment_ns"])
        found.append(Uses(path, *owner, tables, scores))
    return found


def in_use(
    folder: Path, alive: Callable[[int], bool], now: float, young_s: float, scores: Path
) -> list[Uses]:
    """What calls of the run or audit may still need; empty when there is no such call.

    A call is at work while its process runs on this machine. One of another machine cannot be
    asked, and one that was killed may be repeated to go on: both count while the folder or one of
    their score folders has changed within `young_s`.
    """
    found = []
    for uses in read_uses(folder):
        places = [folder, *(scores / key for key in uses.scores)]
        changed = max((path.stat().st_mtime for path in places if path.exists()), default=0.0)
        if uses.lives(alive) or now - changed < young_s:
            found.append(uses)
    return found


def _own(folder: Path) -> Path:
    return folder / f"uses-{this_machine()}-{os.getpid()}.json"
