"""Run folders: the verdicts of a run, its manifest, and what it took.

runs/<run id>/manifest.json         written last; the same bytes for the same run
runs/<run id>/00-import.parquet     records that gave no row
runs/<run id>/<nn>-<stage>.parquet  verdicts
runs/<run id>/views.sql             the views of `winnow query` for plain DuckDB
runs/<run id>/calls.json            each call of the run: when, how long, model calls, outcome
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from pipelines.store.atomic import write_bytes, write_table
from pipelines.store.manifest import NAME, dump, read_manifest, write_manifest
from pipelines.store.parts import read_part
from pipelines.store.workspace import Workspace

CALLS = "calls.json"
LATEST = "latest"


class NoSuchRun(Exception):
    """There is no run of that id (or none at all)."""


@dataclass(frozen=True)
class RunFolder:
    """One run on disk; it may be unfinished."""

    workspace: Workspace
    run_id: str

    @property
    def path(self) -> Path:
        return self.workspace.run(self.run_id)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of a finished run, else None."""
        return read_manifest(self.path)

    def verdicts_path(self, number: int, stage: str) -> Path:
        return self.path / verdicts_name(number, stage)

    def write_verdicts(self, number: int, stage: str, verdicts: pa.Table) -> None:
        write_table(
            self.verdicts_path(number, stage),
            verdicts,
            use_dictionary=["verdict", "reason", "evidence"],
        )

    def read_verdicts(self, number: int, stage: str) -> pa.Table | None:
        """Place and verdict of each row that a stage decided; None where there is no sound file."""
        try:
            return read_part(self.verdicts_path(number, stage), ["place", "verdict"])
        except (FileNotFoundError, pa.ArrowInvalid):
            return None

    def finish(self, content: dict[str, Any]) -> None:
        write_manifest(self.path, content)

    def reopen(self) -> None:
        """Make a finished run unfinished again, before its verdicts are written anew."""
        (self.path / NAME).unlink(missing_ok=True)

    def calls(self) -> list[dict[str, Any]]:
        """Every call of this run, the latest last."""
        try:
            return list(orjson.loads((self.path / CALLS).read_bytes()))
        except FileNotFoundError:
            return []

    def add_call(self, call: dict[str, Any]) -> None:
        write_bytes(self.path / CALLS, dump([*self.calls(), call]))


def verdicts_name(number: int, stage: str) -> str:
    return f"{number:02d}-{stage}.parquet"


def all_runs(workspace: Workspace) -> list[RunFolder]:
    """All runs with at least one call noted, the one called last at the end."""
    if not workspace.runs.is_dir():
        return []
    folders = [
        RunFolder(workspace, path.name)
        for path in workspace.runs.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    ]
    return sorted(folders, key=lambda folder: (_last_call(folder), folder.run_id))


def find_run(workspace: Workspace, run_id: str | None) -> RunFolder:
    """The finished run whose id begins with `run_id`; the latest for "latest" or None.

    Raises NoSuchRun, naming what there is.
    """
    finished = [folder for folder in all_runs(workspace) if folder.manifest() is not None]
    if run_id in (None, LATEST) and finished:
        return finished[-1]
    matching = [folder for folder in finished if folder.run_id.startswith(run_id or "")]
    if len(matching) == 1:
        return matching[0]
    there = ", ".join(folder.run_id for folder in reversed(finished)) or "none"
    if not matching:
        what = f"no finished run '{run_id}'" if run_id else "no finished run"
    else:
        there = ", ".join(folder.run_id for folder in reversed(matching))
        what = f"more than one run that begins with '{run_id}'"
    raise NoSuchRun(f"There is {what} in {workspace.root}. Finished runs: {there}.")


def _last_call(folder: RunFolder) -> str:
    calls = folder.calls()
    return str(calls[-1]["started"]) if calls else ""
