"""Before anything is trained: the table, whose folder it is, and what there is to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.engines.sources import ModelSource
from pipelines.train.config import FileTable, RunTable, TrainingConfig
from pipelines.train.errors import TrainingImpossible
from pipelines.train.folder import (
    TABLE,
    clear,
    is_finished,
    known_identity,
    refuse_another,
    tidy,
    write_identity,
)
from pipelines.train.identity import identity
from pipelines.train.run_table import exported, named_run
from pipelines.train.tables import TableFiles, table_files


@dataclass(frozen=True)
class Prepared:
    """What to train on; what the training is; the manifest of a training that is finished."""

    tables: TableFiles
    identity: dict[str, Any]
    finished: dict[str, Any] | None


def prepare(
    config: TrainingConfig,
    source: ModelSource,
    workspace: Path,
    processes: int,
    *,
    fresh: bool,
    first: bool,
) -> Prepared:
    """Check the output folder, and write there what the training is.

    fresh: remove what an earlier training has left there. first: of several processes only one
    changes anything, before the others look.
    Raises TrainingImpossible for a folder of another training.
    """
    output = config.output
    known = known_identity(output)
    if fresh and first:
        clear(output)
        known = None
    tables = _tables(config, workspace, known)
    now = identity(config, source, tables, processes)
    if known is not None:
        refuse_another(output, known, now)
    elif first:
        write_identity(output, now)
    if first:
        tidy(output)
    return Prepared(tables, now, is_finished(output))


def _tables(config: TrainingConfig, workspace: Path, known: dict[str, Any] | None) -> TableFiles:
    if isinstance(config.table, RunTable):
        tables = _of_run(config.table, config.output, workspace, known)
    else:
        tables = table_files(config.table.path)
    held_out = tables.held_out
    if isinstance(config.held_out, FileTable):
        aside = table_files(config.held_out.path)
        held_out = aside.held_out or aside.train
    elif config.held_out is None:
        held_out = None
    elif held_out is None:
        raise TrainingImpossible(
            f"{tables.train.path} has no held-out side: export it with a split "
            "(winnow export ... --held-out 0.1), or name another file under held_out"
        )
    if held_out is not None and held_out.sha256 == tables.train.sha256:
        raise TrainingImpossible(
            f"{held_out.path} holds the very rows that are trained on: a loss on them says nothing"
        )
    return TableFiles(tables.train, held_out)


def _of_run(
    table: RunTable, output: Path, workspace: Path, known: dict[str, Any] | None
) -> TableFiles:
    """The run's rows in the folder; another training's table is not written over."""
    run = named_run(table, workspace)
    if known is not None:
        refuse_another(
            output,
            {"table": {"run_id": known["table"]["run_id"]}},
            {"table": {"run_id": run.run_id}},
        )
    return exported(table, run, output / TABLE)
