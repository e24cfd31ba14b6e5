"""What an unfinished run holds on to, so that `gc` leaves it alone.

    runs/<run id>/uses.json    process, host, tables, scores: written when a call begins

A run that is finished says in its manifest what it needs. Before that nothing would say so: a call
that scores for three days must not lose the parts of its first day.
"""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from pipelines.store.atomic import write_bytes
from pipelines.store.manifest import dump
from pipelines.store.runs import RunFolder

NAME = "uses.json"


@dataclass(frozen=True)
class Uses:
    """tables and scores: keys. Rows that stages create on the way are not known beforehand."""

    host: str
    process: int
    tables: frozenset[str]
    scores: frozenset[str]


def note_uses(folder: RunFolder, tables: Sequence[str], scores: Sequence[str]) -> None:
    """Say that this process works on the run."""
    content = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "tables": list(tables),
        "scores": sorted({key for key in scores if key}),
    }
    write_bytes(folder.path / NAME, dump(content))


def drop_uses(folder: RunFolder) -> None:
    """Say that this process is done with the run."""
    (folder.path / NAME).unlink(missing_ok=True)


def read_uses(folder: RunFolder) -> Uses | None:
    try:
        found = orjson.loads((folder.path / NAME).read_bytes())
    except FileNotFoundError:
        return None
    return Uses(
        found["host"], found["process"], frozenset(found["tables"]), frozenset(found["scores"])
    )


def in_use(
    folder: RunFolder, alive: Callable[[int], bool], now: float, young_s: float, scores: Path
) -> Uses | None:
    """What a call of the run may still need; None when there is no such call.

    A call is at work while its process runs on this machine. One of another machine cannot be
    asked, and one that was killed may be repeated to go on: both count while the folder of the run
    or one of its score folders has changed within `young_s`.
    """
    uses = read_uses(folder)
    if uses is None or (uses.host == socket.gethostname() and alive(uses.process)):
        return uses
    places = [folder.path, *(scores / key for key in uses.scores)]
    changed = max((path.stat().st_mtime for path in places if path.exists()), default=0.0)
    return uses if now - changed < young_s else None
