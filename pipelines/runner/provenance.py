"""Where a result comes from: the run's manifest, and what exports say about it.

Both hold nothing that differs between two runs of the same thing (no times, no paths of a machine).
"""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from pipelines.exporters.provenance import Provenance
from pipelines.exporters.spec import Export
from pipelines.recipe import Recipe, RecipeError
from pipelines.runner.outcome import StageOutcome
from pipelines.runner.plan import Plan
from pipelines.runner.rowset import RowSet
from pipelines.store.runs import RunFolder
from pipelines.store.tables import Table
from schemas.rows import RowType

PACKAGES: Final = ("winnow", "polars", "pyarrow", "torch", "transformers", "sentence-transformers")
# How a run is named, checked and exported does not belong to what it is.
NOT_THE_RUN: Final = {"name", "exports", "max_failed"}


def run_manifest(
    recipe: Recipe,
    plan: Plan,
    tables: Sequence[Table],
    stages: Sequence[StageOutcome],
    limit: int | None,
) -> dict[str, Any]:
    return {
        "run_id": plan.run_id,
        "recipe": recipe.model_dump(mode="json", exclude=NOT_THE_RUN),
        "limit": limit,
        "seed": recipe.seed,
        "engines": dict(plan.identities),
        "versions": _versions(),
        "tables": [
            {
                "table": t.key,
                "row_type": t.row_type,
                "rows": t.rows,
                "failed": t.failed,
                **t.details,
            }
            for t in tables
        ],
        "stages": [stage.as_manifest() for stage in stages],
    }


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def export_provenance(folder: RunFolder) -> Provenance:
    """What an export says about its origin. The run must be finished."""
    manifest = folder.manifest()
    if manifest is None:
        raise RuntimeError(f"run {folder.run_id} has no manifest yet")
    return Provenance.from_manifest(manifest)


def export_row_type(spec: Export, rows: RowSet) -> RowType:
    """The row type that an export takes: the one it names, or the only one there is."""
    if spec.row_type is not None:
        return spec.row_type
    present = rows.row_types()
    fitting = [row_type for row_type in present if row_type in spec.row_types]
    if len(fitting) == 1:
        return fitting[0]
    if not present:
        return spec.row_types[0]
    what = " and ".join(present)
    if fitting:
        raise RecipeError(
            [f"the set holds {what} rows; an export takes one type: row_type: {fitting[0]}"],
            f"the export {spec.path}",
        )
    raise RecipeError(
        [f"the set holds {what} rows, which the format {spec.format} cannot hold"],
        f"the export {spec.path}",
    )
