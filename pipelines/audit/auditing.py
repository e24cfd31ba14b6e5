"""One audit: which stages, the scores of all rows, the verdicts about each kind.

Scores come from the workspace's store and go there: rows as they are have been scored by runs, or
will not be scored again by them. Verdicts are kept here and written nowhere else.

Each kind is decided about by itself, the sample together with its bad rows: a rule that looks at
the whole set (a median, duplicates) would otherwise see a set that is mostly bad. No verdict takes
a row away from later stages, so that each stage is measured on all rows; a row that fails is gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.audit.budgets import Scaled, scaled, with_budget
from pipelines.audit.planting import Kind
from pipelines.audit.sample import ROW_TYPE
from pipelines.recipe import Recipe
from pipelines.runner.deciding import Deciding
from pipelines.runner.models import Models
from pipelines.runner.plan import PlannedStage
from pipelines.runner.progress import Progress
from pipelines.runner.rowset import PLACES_PER_TABLE, Places, RowSet
from pipelines.runner.scoring import PLACE, Scored, Scoring, earlier_scores
from pipelines.store.scores import ScoreStore
from pipelines.store.tables import Table
from pipelines.store.workspace import Workspace
from stages.base import Stage
from stages.clear.calibrate import ClearCalibrate
from stages.context import Context

# Kinds of models that are made from the rows of a run: in an audit they would be made of bad ones.
BUILT: Final = frozenset({"tuned"})


@dataclass(frozen=True)
class LeftOut:
    """A stage that is not audited, and why."""

    stage: str
    why: str


def audited_stages(recipe: Recipe) -> tuple[tuple[Stage, ...], tuple[LeftOut, ...]]:
    """The stages of a recipe that an audit can run, in order, and the others."""
    stages: list[Stage] = []
    out: dict[str, LeftOut] = {}
    for stage in recipe.stages:
        why = _not_audited(stage, recipe, out)
        if why:
            out[stage.label] = LeftOut(stage.label, why)
        else:
            stages.append(stage)
    return tuple(stages), tuple(out.values())


def _not_audited(stage: Stage, recipe: Recipe, out: Mapping[str, LeftOut]) -> str:
    if ROW_TYPE not in stage.accepts or stage.row_type not in (None, ROW_TYPE):
        return f"it works on {stage.row_type or ' and '.join(stage.accepts)} rows"
    if isinstance(stage, ClearCalibrate):
        return f"{stage.labels} says of a planted row what was true before it was spoiled"
    built = [need.model for need in stage.needs() if recipe.models[need.model].kind in BUILT]
    if built:
        return f"its model '{built[0]}' is made from the rows of a run"
    named = (*stage.reads(), *stage.consults())
    missing = [name for name in named if name.rpartition(".")[0] in out]
    return f"it reads '{missing[0]}', which is left out" if missing else ""


@dataclass
class Audited:
    """What became of the rows of one kind, and of the clean ones beside them, at one stage.

    columns: id, place, bad (bool), verdict, reason, evidence, value (float64: the score of quality,
    null for a stage without one). Failed rows have the verdict `fail`.
    """

    stage: Stage
    kind: Kind
    rows: pl.DataFrame


@dataclass
class Auditing:
    """The stages of an audit over its tables (the clean one first).

    workspace   the one of the user, for scores
    data_rows   rows of the data, of which the clean ones are a sample: budgets are shares of them
    budgets     what the budgets of stages were taken as
    """

    workspace: Workspace
    tables: Sequence[Table]
    kinds: Sequence[Kind]
    models: Models
    ctx: Context
    progress: Progress
    data_rows: int
    scored: dict[str, Scored] = field(default_factory=dict)
    budgets: list[Scaled] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.all = RowSet(list(self.tables))
        self.sets = {kind: self._set_of(number) for number, kind in enumerate(self.kinds, start=1)}

    def run_stage(self, planned: PlannedStage) -> list[Audited]:
        """Score what is missing, then decide about each kind."""
        stage = planned.stage
        scored = self._score(planned)
        verdicts = {kind: self._decide(stage, kind, scored) for kind in self.sets}
        failed = [
            table.filter(pa.compute.equal(table["verdict"], "fail"))["place"].to_numpy()
            for table in verdicts.values()
        ]
        # A row that fails beside one kind is out everywhere: all see the same clean rows.
        gone = np.unique(np.concatenate(failed)) if failed else np.empty(0, np.int64)
        for rows, table in zip(self.sets.values(), verdicts.values(), strict=True):
            rows.apply(stage.label, ROW_TYPE, table, flagging=True)
            rows.remove(ROW_TYPE, gone)
        self.all.remove(ROW_TYPE, gone)
        self.progress.finish(_summary(verdicts, gone))
        return [
            Audited(stage, kind, self._with_values(stage, table, scored, gone))
            for kind, table in verdicts.items()
        ]

    def _set_of(self, number: int) -> RowSet:
        """The clean rows and those of one table, under the places that they have in all."""
        rows = RowSet(list(self.tables))
        for other, table in enumerate(self.tables):
            if other not in (0, number):
                rows.remove(ROW_TYPE, np.arange(table.rows) + other * PLACES_PER_TABLE)
        return rows

    def _score(self, planned: PlannedStage) -> Scored | None:
        if not planned.scoring_key:
            self.progress.start(planned.stage.label, 0, 0, "rows")
            return None
        store = ScoreStore(self.workspace.scores_of(planned.scoring_key))
        scored = Scoring(
            planned.stage,
            ROW_TYPE,
            self.all,
            store,
            self.ctx,
            self.models,
            self.progress,
            self.scored,
        ).run(retry_failed=False)
        self.scored[planned.stage.label] = scored
        return scored

    def _decide(self, stage: Stage, kind: Kind, scored: Scored | None) -> pa.Table:
        rows = self.sets[kind]
        here = rows.scan(ROW_TYPE).select(PLACE).collect()[PLACE]
        budget = scaled(stage, kind, len(here), self.data_rows)
        if budget is not None:
            self.budgets.append(budget)
            stage = with_budget(stage, budget.taken)
        own = scored and replace(
            scored, keys=scored.keys.filter(pl.col(PLACE).is_in(here.implode()))
        )
        return Deciding(stage, ROW_TYPE, rows, own, self.scored, self.ctx).run().verdicts

    def _with_values(
        self, stage: Stage, verdicts: pa.Table, scored: Scored | None, gone: Places
    ) -> pl.DataFrame:
        rows = pl.DataFrame(verdicts.select(["id", PLACE, "verdict", "reason", "evidence"]))
        value = pl.lit(None, pl.Float64)
        if stage.quality and scored is not None:
            found = earlier_scores(scored, rows[PLACE], [stage.quality])[stage.quality]
            value = pl.lit(found.cast(pl.Float64))
        failed = pl.col(PLACE).is_in(pl.Series(gone).implode())
        return rows.select(
            "id",
            PLACE,
            (pl.col(PLACE) >= PLACES_PER_TABLE).alias("bad"),
            verdict=pl.when(failed).then(pl.lit("fail")).otherwise("verdict"),
            reason="reason",
            evidence="evidence",
            value=value,
        )


def _summary(verdicts: Mapping[Kind, pa.Table], gone: Places) -> str:
    """`drops 3 of 200 clean rows, 61 of 210 bad ones`; clean rows beside the first kind."""
    tables = [pl.DataFrame(table.select([PLACE, "verdict"])) for table in verdicts.values()]
    bad = pl.concat(table.filter(pl.col(PLACE) >= PLACES_PER_TABLE) for table in tables)
    clean = tables[0].filter(pl.col(PLACE) < PLACES_PER_TABLE)
    told = f"drops {_drops(clean)} of {clean.height} clean rows, {_drops(bad)} of {bad.height} bad"
    return told + (f"; {len(gone)} failed" if len(gone) else "")


def _drops(rows: pl.DataFrame) -> int:
    return int((rows["verdict"] == "drop").sum())
