"""The output folder of a training: whose it is, and what there is to do.

training.json          what the training is, written first
table/                 the rows of a run, exported
left_out.jsonl         rows that were left out or cut, and why
selection.jsonl        what was chosen from each candidate batch
checkpoint-<step>/     with the selection's memory and a manifest
model/                 the trained weights (adapters, or all) and the tokenizer
figures.jsonl          loss, learning rate and the selection's figures, as they were logged
manifest.json          what came of it, written last
"""

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from pipelines.store.atomic import TEMPORARY, sweep, write_bytes
from pipelines.store.manifest import NAME as MANIFEST
from pipelines.store.manifest import dump, read_manifest
from pipelines.train.checkpoints import checkpoints, remove_incomplete
from pipelines.train.errors import TrainingImpossible
from pipelines.train.identity import differences

IDENTITY: Final = "training.json"
TABLE: Final = "table"
MODEL: Final = "model"
LEFT_OUT: Final = "left_out.jsonl"
FIGURES: Final = "figures.jsonl"
_LOCK: Final = ".lock"
_SELECTION_LOGS: Final = "selection*.jsonl"


@contextmanager
def only_training(output: Path) -> Iterator[None]:
    """Nobody else trains into this folder meanwhile; the lock goes with the process.

    Raises TrainingImpossible.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise TrainingImpossible(f"another process trains into {output} right now") from busy
        yield


def known_identity(output: Path) -> dict[str, Any] | None:
    """What the folder's training is; None for a folder without one.

    Raises TrainingImpossible for a folder with other things in it.
    """
    try:
        return dict(orjson.loads((output / IDENTITY).read_bytes()))
    except FileNotFoundError:
        pass
    if not output.is_dir():
        return None
    # A table that was exported before a kill is all that may be there without an identity.
    others = {path.name for path in output.iterdir() if not path.name.startswith(TEMPORARY)}
    if others := others - {TABLE, _LOCK}:
        raise TrainingImpossible(
            f"{output} holds other things than a training ({', '.join(sorted(others)[:5])}): "
            "choose another output"
        )
    return None


def refuse_another(output: Path, known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises TrainingImpossible, naming what changed, where `now` is not what the folder holds.

    Names that `now` lacks are not compared.
    """
    compared = {name: value for name, value in known.items() if name in now}
    if changed := differences(compared, now):
        lines = "\n".join(f"  - {line}" for line in changed)
        raise TrainingImpossible(
            f"{output} holds another training:\n{lines}\n"
            "Choose another output, or --fresh to remove it and start anew."
        )


def is_finished(output: Path) -> dict[str, Any] | None:
    """The manifest of a finished training."""
    return read_manifest(output)


def clear(output: Path) -> None:
    """Remove what a training has written there, and nothing else."""
    (output / MANIFEST).unlink(missing_ok=True)
    for path in checkpoints(output).values():
        shutil.rmtree(path)
    for name in (TABLE, MODEL):
        shutil.rmtree(output / name, ignore_errors=True)
    for path in (
        *output.glob(_SELECTION_LOGS),
        output / FIGURES,
        output / LEFT_OUT,
        output / IDENTITY,
    ):
        path.unlink(missing_ok=True)


def tidy(output: Path) -> None:
    """Remove what kills have left half-written."""
    sweep(output)
    remove_incomplete(output)


def write_identity(output: Path, content: Mapping[str, Any]) -> None:
    write_bytes(output / IDENTITY, dump(dict(content)))


def write_lines(path: Path, lines: Any) -> None:
    """JSON, one object a line; complete or absent."""
    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    write_bytes(path, b"".join(orjson.dumps(line, option=option) for line in lines))
