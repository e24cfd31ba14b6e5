"""What a run would cost, before it is run.

The input is imported and stages without a model are scored, as a run would do it and for its use
(both are kept); no model is opened and no run is written. A stage whose scores are all there is
decided, so that the next stage's rows are exact. After a stage with scores missing nobody can know
which rows it will drop: all that came in are counted, and figures are upper bounds.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.engines.config import ServedModel, identity
from pipelines.engines.libraries import Find, is_installed
from pipelines.engines.opening import open_neighbours
from pipelines.recipe import Recipe
from pipelines.runner.deciding import Deciding
from pipelines.runner.importing import Importing
from pipelines.runner.keys import is_score, row_columns
from pipelines.runner.models import Models
from pipelines.runner.plan import PlannedStage, make_plan
from pipelines.runner.progress import Progress, Silent
from pipelines.runner.readiness import missing_libraries
from pipelines.runner.rowset import RowSet
from pipelines.runner.scoring import Scored, Scoring
from pipelines.runner.tuned import pinned_models
from pipelines.store.runs import RunFolder
from pipelines.store.scores import ScoreStore
from pipelines.store.workspace import Workspace
from stages.base import Stage
from stages.context import Context
from stages.engines import Engine, EngineError

# English text in the tokenisers of today: about four bytes a token.
BYTES_PER_TOKEN: Final = 4


@dataclass(frozen=True)
class StageForecast:
    """One line. rows and to_score are exact, or upper bounds with `at_most`.

    tokens_about: 4 bytes each, of the texts that the stage reads, times its calls; what models
    write comes on top.
    cost_about: those tokens at what each model takes for reading its share of them; None where no
    model of the stage has a price. Not in it: what models write (nobody knows how much that will
    be), the instructions around the texts, requests sent again. Taken off it: nothing for tokens
    that a server has cached, nor for the samples of one prompt, which some servers count once.
    """

    stage: str
    rows: int
    at_most: bool
    already_scored: int
    to_score: int
    model_calls: int
    tokens_about: int
    creates: bool = False
    cost_about: float | None = None


@dataclass(frozen=True)
class Forecast:
    """`finished`: an earlier call has finished this very run, so there is nothing to do.

    notes: what a run would lack here.
    """

    run_id: str
    finished: bool
    rows: int
    failed: int
    stages: tuple[StageForecast, ...]
    notes: tuple[str, ...] = ()

    @property
    def cost_about(self) -> float | None:
        """All stages with a price together; None where there is none."""
        known = [stage.cost_about for stage in self.stages if stage.cost_about is not None]
        return sum(known) if known else None

    def as_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "finished": self.finished,
            "rows": self.rows,
            "failed": self.failed,
            "stages": [asdict(stage) for stage in self.stages],
            "model_calls": sum(stage.model_calls for stage in self.stages),
            "tokens_about": sum(stage.tokens_about for stage in self.stages),
            "cost_about": self.cost_about,
            "notes": list(self.notes),
        }


@dataclass
class DryRun:
    """See the module.

    identify   names an engine by its config, without opening it
    find       whether a library is installed, by its import name
    """

    recipe: Recipe
    workspace: Workspace
    limit: int | None = None
    retry_failed: bool = False
    progress: Progress = field(default_factory=Silent)
    identify: Callable[[Any], dict[str, Any]] = identity
    find: Find = is_installed

    def run(self) -> Forecast:
        """Import, then walk through the stages."""
        self.rows = RowSet()
        self.scored: dict[str, Scored] = {}
        self.models = Models(self.recipe.models, _refuse)
        self.ctx = Context(
            seed=self.recipe.seed, engine=self.models.engine, neighbours=open_neighbours
        )
        self.exact = True
        step = Importing(self.recipe.source, self.workspace, self.limit, self.progress)
        tables, imported, _ = step.run()
        for table in tables:
            self.rows.add(table)
        plan = make_plan(
            self.recipe, tables, self.identify, pinned_models(self.recipe, self.workspace)
        )
        stages = tuple(self._forecast(planned) for planned in plan.stages)
        finished = RunFolder(self.workspace, plan.run_id).manifest() is not None
        return Forecast(
            run_id=plan.run_id,
            finished=finished,
            rows=imported.counts.kept,
            failed=imported.counts.failed,
            stages=stages,
            notes=tuple(missing_libraries(self.recipe, self.find)),
        )

    def _forecast(self, planned: PlannedStage) -> StageForecast:
        stage = planned.stage
        at_most = not self.exact
        rows = self._rows(planned)
        missing = self._missing(planned)
        if missing is None:  # scores of an earlier stage are not there to be read
            return self._unknown(planned, rows)
        if missing.height == 0 and self.exact:
            self._decide(planned)
        else:
            self.exact = False
        calls = missing.height * stage.calls_per_row()
        tokens = self._tokens(planned, missing) if calls else 0  # read once
        return StageForecast(
            stage=stage.label,
            rows=rows,
            at_most=at_most,
            already_scored=rows - missing.height if planned.scoring_key else 0,
            to_score=missing.height,
            model_calls=calls,
            tokens_about=tokens * stage.calls_per_row(),
            creates=_creates(stage),
            cost_about=_cost(stage, self.recipe.models, tokens),
        )

    def _rows(self, planned: PlannedStage) -> int:
        if planned.row_type not in self.rows.row_types():
            return 0
        return int(self.rows.scan(planned.row_type).select(pl.len()).collect().item())

    def _missing(self, planned: PlannedStage) -> pl.DataFrame | None:
        """Rows without a score once stages without a model have been scored; None for unknown."""
        stage = planned.stage
        if not planned.scoring_key or planned.row_type not in self.rows.row_types():
            return _NOTHING
        sources = {name.rpartition(".")[0] for name in stage.reads() if is_score(name)}
        if not sources <= self.scored.keys():
            return None
        scoring = self._scoring(planned)
        missing = scoring.missing(scoring.keys(), retry_failed=self.retry_failed)
        if missing.height == 0 or (not stage.needs() and self.exact):
            # Opens no model: there is nothing to ask one for.
            self.scored[stage.label] = scoring.run(retry_failed=self.retry_failed)
            return _NOTHING
        return missing

    def _scoring(self, planned: PlannedStage) -> Scoring:
        store = ScoreStore(self.workspace.scores_of(planned.scoring_key))
        return Scoring(
            planned.stage,
            planned.row_type,
            self.rows,
            store,
            self.ctx,
            self.models,
            self.progress,
            self.scored,
        )

    def _decide(self, planned: PlannedStage) -> None:
        """Take out the rows that the stage will drop or fail."""
        stage = planned.stage
        if planned.row_type not in self.rows.row_types():
            return
        scored = self.scored.get(stage.label)
        decision = Deciding(stage, planned.row_type, self.rows, scored, self.scored, self.ctx).run()
        flagging = stage.on_drop == "flag"
        self.rows.apply(stage.label, planned.row_type, decision.verdicts, flagging=flagging)
        if _creates(stage):
            self.exact = False  # rows that it makes are not counted

    def _unknown(self, planned: PlannedStage, rows: int) -> StageForecast:
        self.exact = False
        calls = rows * planned.stage.calls_per_row()
        places = self.rows.scan(planned.row_type).select("place").collect()
        tokens = self._tokens(planned, places) if calls else 0  # read once
        return StageForecast(
            stage=planned.stage.label,
            rows=rows,
            at_most=True,
            already_scored=0,
            to_score=rows,
            model_calls=calls,
            tokens_about=tokens * planned.stage.calls_per_row(),
            creates=_creates(planned.stage),
            cost_about=_cost(planned.stage, self.recipe.models, tokens),
        )

    def _tokens(self, planned: PlannedStage, rows: pl.DataFrame) -> int:
        """About so many in the texts of these rows."""
        columns = row_columns(planned.stage)
        places = rows["place"].to_numpy()
        texts = sum(
            text_bytes(batch[name].combine_chunks())
            for batch in self.rows.batches(planned.row_type, columns, places)
            for name in columns
        )
        return texts // BYTES_PER_TOKEN


def text_bytes(values: pa.Array) -> int:
    """Bytes of all texts in a column, however deep they lie."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return int(pc.sum(pc.binary_length(values)).as_py() or 0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return text_bytes(values.flatten())
    if pa.types.is_struct(kind):
        return sum(text_bytes(field) for field in values.flatten())
    return 0


def _cost(stage: Stage, models: Mapping[str, Any], tokens: int) -> float | None:
    """What reading so many tokens costs, by each model as often as it is called for a row."""
    costs = []
    for need in stage.needs():
        config = models[need.model]
        if isinstance(config, ServedModel) and config.price is not None:
            costs.append(tokens * need.calls * config.price.prompt_per_million / 1e6)
    return sum(costs) if costs else None


def _creates(stage: Stage) -> bool:
    return type(stage).create is not Stage.create or type(stage).gather is not Stage.gather


def _refuse(config: object) -> Engine:
    raise EngineError("a dry run opens no model")


_NOTHING: Final = pl.DataFrame(schema={"place": pl.Int64, "key": pl.Binary})
