"""A finished run's rows as the table of a training."""

from pathlib import Path
from typing import Any

from pipelines.exporters.export import write_export
from pipelines.recipe import parse_export
from pipelines.runner.provenance import export_provenance, export_row_type
from pipelines.runner.restoring import rows_of
from pipelines.store.runs import RunFolder, find_run
from pipelines.store.workspace import Workspace
from pipelines.train.config import RunTable
from pipelines.train.errors import TrainingImpossible
from pipelines.train.tables import TableFiles, table_files


def named_run(table: RunTable, workspace: Path) -> RunFolder:
    """The run that the config names. Raises NoSuchRun."""
    return find_run(Workspace(workspace), table.run)


def exported(table: RunTable, run: RunFolder, folder: Path) -> TableFiles:
    """The run's rows as files in `folder`, written unless they are there and whole.

    The file is named for what it holds, so that another share or run never replaces it.
    """
    share = "" if table.held_out is None else f"-{table.held_out}"
    path = folder / f"{run.run_id}{share}.jsonl"
    if (there := _sound(path)) is not None:
        return there
    asked: dict[str, Any] = {"format": "messages", "path": str(path), "with_id": True}
    if table.held_out is not None:
        asked["split"] = {"held_out": table.held_out}
    spec = parse_export(asked)
    rows = rows_of(run)
    row_type = export_row_type(spec, rows)
    seed = (run.manifest() or {})["seed"]
    write_export(rows.scan(row_type), row_type, spec, export_provenance(run), seed=seed)
    return table_files(path)


def _sound(path: Path) -> TableFiles | None:
    try:
        return table_files(path)
    except TrainingImpossible:
        return None  # absent or damaged: it is exported anew, which is always right
