"""What a run is: the recipe once its input is known, and the id that follows from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.recipe import Recipe, RecipeError
from pipelines.runner.keys import scoring_key
from pipelines.runner.tuned import planned_identity
from pipelines.store.tables import Table
from schemas.ids import digest
from schemas.rows import ROW_TYPES, RowType
from stages.base import Stage


@dataclass(frozen=True)
class PlannedStage:
    """A stage that knows its row type, and the name of its scores ("" when it has none).

    The scores of a stage that asks for a model which the run makes are named when the model's rows
    are known, by `with_models`.
    """

    number: int
    stage: Stage
    row_type: RowType
    scoring_key: str


@dataclass(frozen=True)
class Plan:
    """run_id follows from the rows, the stages, the engines and the seed; from nothing else."""

    run_id: str
    stages: tuple[PlannedStage, ...]
    identities: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def make_plan(
    recipe: Recipe,
    tables: Sequence[Table],
    identify: Callable[[Any], dict[str, Any]],
    pinned: Mapping[str, Any] | None = None,
) -> Plan:
    """Settle row types, engine identities and the run's id. Loads no model.

    pinned: the models of earlier runs that the recipe takes (`tuned.pinned_models`).
    """
    present = [kind for kind in ROW_TYPES if any(t.row_type == kind and t.rows for t in tables)]
    used = {need.model for stage in recipe.stages for need in stage.needs()}
    identities = {
        name: planned_identity(recipe, name, identify, pinned or {}) for name in sorted(used)
    }
    planned = []
    notes = []
    for number, stage in enumerate(recipe.stages, start=1):
        row_type = _row_type(stage, present)
        if row_type not in present and present:
            notes.append(
                f"{stage.label} works on {row_type} rows; the input holds {', '.join(present)} rows"
            )
        settled = stage.model_copy(update={"row_type": row_type})
        key = scoring_key(settled, identities, recipe.seed) if settled.scores() else ""
        planned.append(PlannedStage(number, settled, row_type, key))
    run_id = digest(
        [table.key for table in tables],
        [
            [p.stage.version, p.stage.model_dump(mode="json"), _engines(p.stage, identities)]
            for p in planned
        ],
        recipe.seed,
    ).hex()[:16]
    return Plan(run_id, tuple(planned), identities, tuple(notes))


def with_models(planned: PlannedStage, identities: Mapping[str, Any], seed: int) -> PlannedStage:
    """The stage with the name that its scores have under these identities."""
    stage = planned.stage
    key = scoring_key(stage, identities, seed) if stage.scores() else ""
    return replace(planned, scoring_key=key)


def _engines(stage: Stage, identities: Mapping[str, Any]) -> list[Any]:
    return [identities[need.model] for need in stage.needs()]


def _row_type(stage: Stage, present: Sequence[RowType]) -> RowType:
    if stage.row_type is not None:
        return stage.row_type
    fitting = [row_type for row_type in stage.accepts if row_type in present]
    if len(fitting) > 1:
        raise RecipeError(
            [
                f"{stage.label} could work on {' or '.join(fitting)} rows and the input holds "
                f"both: say which, row_type: {fitting[0]}"
            ]
        )
    return fitting[0] if fitting else stage.accepts[0]
