"""One scheduled run of a recipe at a time, whoever starts it.

Prefect's concurrency limit holds only as long as its server is reachable and knows of the run. This
is a lock of the operating system on a file of the workspace: it goes with the process, however that
ends, and is never left over.
"""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StillRunning(Exception):
    """Another process curates the same recipe in the same workspace right now."""


@contextmanager
def only_run(workspace: Path, recipe: Path) -> Iterator[None]:
    """Hold the lock of (workspace, recipe) for the block. Raises StillRunning."""
    key = hashlib.blake2b(str(recipe.resolve()).encode(), digest_size=8).hexdigest()
    path = workspace / "locks" / f"{recipe.stem}-{key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise StillRunning(
                f"The last run of {recipe} is still at work in {workspace}; this one is left out."
            ) from busy
        yield
