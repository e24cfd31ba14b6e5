"""Checkpoints that are complete or do not count.

transformers writes `checkpoint-<step>` file by file. What makes it complete is our manifest, which
is written last and names every file with its size. Older ones go only after that.
"""

import io
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.store.atomic import remove_folder, sync, write_bytes
from pipelines.store.manifest import NAME as MANIFEST
from pipelines.store.manifest import read_manifest, write_manifest
from pipelines.train.candidates import Array
from pipelines.train.errors import TrainingImpossible

_NAME: Final = re.compile(r"checkpoint-(\d+)")
_COUNTED: Final = "counted_"  # how the names of counts begin among the arrays


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where transformers puts the checkpoint of that step."""
    return output / f"checkpoint-{step}"


def checkpoints(output: Path) -> dict[int, Path]:
    """All checkpoint folders by step, complete or not, in order of steps."""
    if not output.is_dir():
        return {}
    found = {
        int(match.group(1)): path
        for path in output.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    }
    return dict(sorted(found.items()))


def last_complete(output: Path) -> tuple[int, Path] | None:
    """The latest checkpoint that a training can go on from: its step and folder."""
    whole = [(step, path) for step, path in checkpoints(output).items() if _is_complete(path)]
    return whole[-1] if whole else None


def _is_complete(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in manifest["files"].items()
    )


def complete(folder: Path, content: Mapping[str, Any]) -> None:
    """Sync every file, then say what the checkpoint is."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        sync(path)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    write_manifest(folder, {**content, "files": sizes})


def remove_incomplete(output: Path) -> None:
    """Take away what a kill has left half-written."""
    for path in checkpoints(output).values():
        if not _is_complete(path):
            shutil.rmtree(path)


def keep_latest(output: Path, count: int) -> None:
    """Remove the oldest complete checkpoints until `count` are left."""
    whole = [path for path in checkpoints(output).values() if _is_complete(path)]
    for path in whole[:-count]:
        remove_folder(path)


def _state_path(folder: Path, process: int) -> Path:
    return folder / f"selection-rank{process}.npz"


@dataclass(frozen=True)
class Counts:
    """How far a training has come. log_bytes: of this process's log; tokens: of all processes."""

    log_bytes: int = 0
    tokens: int = 0


def save_state(folder: Path, process: int, state: Mapping[str, Array], counts: Counts) -> None:
    """What a selection of one process has to remember, and how far the training has come."""
    buffer = io.BytesIO()
    counted = {_COUNTED + name: np.array(count) for name, count in vars(counts).items()}
    np.savez(buffer, allow_pickle=False, **{**state, **counted})
    write_bytes(_state_path(folder, process), buffer.getvalue())


def load_state(folder: Path, process: int) -> tuple[dict[str, Array], Counts]:
    """What `save_state` was given. Raises TrainingImpossible where it is not there."""
    path = _state_path(folder, process)
    try:
        with np.load(path) as saved:
            state = {name: saved[name] for name in saved.files}
    except FileNotFoundError as error:
        raise TrainingImpossible(
            f"{path} is missing: the checkpoint was written by fewer processes"
        ) from error
    counts = {field.name: int(state.pop(_COUNTED + field.name)) for field in fields(Counts)}
    return state, Counts(**counts)
