"""Files that are complete or absent.

Everything is written under a temporary name beside its place, synced, and renamed. A process that
is killed, or a disk that fills up, leaves a temporary file behind and nothing else; `sweep` removes
those of processes that are gone.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.store.processes import began_after, process_alive, this_machine

TEMPORARY = ".tmp-"
# A temporary file of another machine cannot be asked for its process; after this it is left over.
FOREIGN_AGE_S = 24 * 3600.0


def temporary_beside(path: Path) -> Path:
    """A name for the unfinished form of `path` that says whose it is."""
    owner = f"{this_machine()}-{os.getpid()}"
    return path.with_name(f"{TEMPORARY}{owner}-{time.monotonic_ns()}-{path.name}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, it becomes `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary_beside(path)
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `replacing` for a whole folder. If `path` came to exist meanwhile, it stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = temporary_beside(path)
    unfinished.mkdir()
    try:
        yield unfinished
        for file in unfinished.rglob("*"):
            if file.is_file():
                sync(file)
        try:
            unfinished.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            shutil.rmtree(unfinished)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_table(path: Path, table: pa.Table, **options: object) -> None:
    """A parquet file with zstd and no dictionary on vectors, the same bytes for the same table."""
    with replacing(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", **options)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    if os.name == "posix":
        sync(path)


def sweep(root: Path, alive: Callable[[int], bool] | None = None) -> int:
    """Remove temporary files and folders of processes that are gone; returns how many."""
    alive = alive or process_alive
    ours = f"{this_machine()}-"
    removed = 0
    for path in _temporary(root):
        owner = path.name.removeprefix(TEMPORARY)
        if owner.startswith(ours):
            if _is_owned(owner.removeprefix(ours), alive):
                continue
        elif path.exists() and time.time() - path.stat().st_mtime < FOREIGN_AGE_S:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed += 1
    return removed


def _is_owned(rest: str, alive: Callable[[int], bool]) -> bool:
    """Whether the process lives that has made `<process>-<monotonic ns>-<name>`."""
    process, _, behind = rest.partition("-")
    made_ns = behind.partition("-")[0]
    if not (process.isdigit() and made_ns.isdigit()):
        return False
    return alive(int(process)) and not began_after(int(process), int(made_ns))


def _temporary(root: Path) -> Iterator[Path]:
    # Not rglob, which fails when another process renames a folder under its eyes.
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            if name.startswith(TEMPORARY):
                yield Path(folder, name)
        folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]


def remove_folder(folder: Path) -> None:
    """Out of sight in one step, so that nobody ever finds half of it; then off the disk."""
    unwanted = temporary_beside(folder)
    folder.rename(unwanted)
    shutil.rmtree(unwanted)
