"""One run of one recipe in one workspace, step by step.

    curation = Curation(recipe, workspace)
    if not curation.begin():              # imports; True: an earlier call finished this very run
        for planned in curation.plan.stages:
            curation.run_stage(planned)
        curation.finish()
    curation.export()

`winnow run` calls these steps in process, the Prefect flow calls the same ones as tasks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from typing import Any

import pyarrow as pa

from pipelines.engines.config import identity
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.libraries import Find, is_installed
from pipelines.engines.opening import open_engine, open_neighbours
from pipelines.exporters.export import write_export
from pipelines.recipe import Recipe
from pipelines.runner.creating import Creating
from pipelines.runner.deciding import Deciding
from pipelines.runner.errors import RunStopped, TooManyFailed
from pipelines.runner.importing import Importing
from pipelines.runner.keys import creating_key
from pipelines.runner.models import Models
from pipelines.runner.outcome import Effort, Outcome, StageOutcome
from pipelines.runner.plan import Plan, PlannedStage, make_plan, with_models
from pipelines.runner.progress import DecideProgress, Progress, Silent
from pipelines.runner.provenance import export_provenance, export_row_type, run_manifest
from pipelines.runner.readiness import check_before_import, check_plan
from pipelines.runner.rowset import RowSet
from pipelines.runner.scoring import Scored, Scoring
from pipelines.runner.tuned import TunedModels, needs_rows, pinned_models
from pipelines.runner.views import write_views
from pipelines.store.atomic import sweep
from pipelines.store.runs import RunFolder
from pipelines.store.scores import ScoreStore
from pipelines.store.tables import open_table
from pipelines.store.uses import drop_uses, note_uses
from pipelines.store.workspace import Workspace
from stages.context import Context
from stages.engines import Engine, EngineError


@dataclass
class Curation:
    """See the module. Not for use by several threads at once.

    open_engine, identify   how a model's config becomes an engine, and what names it
    find                    whether a library is installed
    """

    recipe: Recipe
    workspace: Workspace
    limit: int | None = None
    retry_failed: bool = False
    progress: Progress = field(default_factory=Silent)
    open_engine: Callable[[Any], Engine] = open_engine
    identify: Callable[[Any], dict[str, Any]] = identity
    find: Find = is_installed

    def __post_init__(self) -> None:
        self.models = Models(dict(self.recipe.models), self.open_engine)
        pinned = pinned_models(self.recipe, self.workspace)
        self.tuned = TunedModels(self.recipe, self.workspace, self.identify, self.progress, pinned)
        self.rows = RowSet()
        self.scored: dict[str, Scored] = {}
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()

    def begin(self) -> bool:
        """Import, settle the plan; True when an earlier call has finished this very run."""
        sweep(self.workspace.root)
        check_before_import(self.recipe, self.workspace, self.find)
        step = Importing(self.recipe.source, self.workspace, self.limit, self.progress)
        tables, imported, effort = step.run()
        for table in tables:
            self.rows.add(table)
        self.plan: Plan = make_plan(self.recipe, tables, self.identify, self.tuned.pinned)
        for note in self.plan.notes:
            self.progress.note(note)
        if not imported.counts.rows_in:
            self.progress.note("the source holds no records: exports will hold none either")
        self.folder = RunFolder(self.workspace, self.plan.run_id)
        self._note_uses()
        self.outcome = Outcome(self.plan.run_id, stages=[imported], efforts={"import": effort})
        manifest = None if self.retry_failed else self.folder.manifest()
        if manifest is not None and self._restore(manifest):
            self.outcome.reused = True
            write_views(self.folder, self.rows.tables, self.outcome.stages)  # it may have moved
            return True
        check_plan(self.plan.stages, self.recipe.models, self.workspace, self.find)
        self.folder.reopen()  # until all verdicts are new, nothing may pass for the whole run
        self.folder.write_verdicts(0, "import", step.ledger(tables))
        return False

    def run_stage(self, planned: PlannedStage) -> StageOutcome:
        """Score what is missing, decide, create.

        Raises RunStopped when an engine is gone and ModelUnavailable when it cannot be opened.
        """
        clock = time.monotonic()
        before = self.models.usage()
        computed = 0
        try:
            outcome, computed = self._run_stage(planned)
        except ModelUnavailable:
            self.models.close()  # the recipe or the machine is at fault: no use to try again
            raise
        except EngineError as error:
            self.models.close()
            raise RunStopped(f"{planned.stage.label} stopped: {error}") from error
        except RunStopped:
            self.models.close()  # a retry of the step opens them anew
            raise
        finally:  # what a step took counts even when it does not end
            usage = self.models.usage().minus(before)
            effort = Effort(time.monotonic() - clock, computed, usage)
            self.outcome.add_effort(planned.stage.label, effort)
        self.outcome.stages.append(outcome)
        self.progress.finish(_summary(outcome))
        later = [one.stage for one in self.plan.stages if one.number > planned.number]
        self.models.keep_only({need.model for stage in later for need in stage.needs()})
        return outcome

    def finish(self) -> Outcome:
        """Write the manifest: from here on the run is complete."""
        self.models.close()
        write_views(self.folder, self.rows.tables, self.outcome.stages)
        self.folder.finish(
            run_manifest(self.recipe, self.plan, self.rows.tables, self.outcome.stages, self.limit)
        )
        return self.outcome

    def export(self) -> Outcome:
        """Write the recipe's exports.

        Raises TooManyFailed, and leaves earlier exports alone, when too many rows have failed.
        """
        self.check_failed()
        provenance = export_provenance(self.folder)
        for spec in self.recipe.exports:
            row_type = export_row_type(spec, self.rows)
            self.progress.start("export", 0, 0, "rows")
            report = write_export(
                self.rows.scan(row_type), row_type, spec, provenance, seed=self.recipe.seed
            )
            self.outcome.exports.append(report.as_json())
            self.progress.finish(report.summary())
        return self.outcome

    def close(self, status: str) -> Outcome:
        """Note this call and its outcome (ok, too_many_failed, stopped) in the run's folder."""
        self.models.close()
        if hasattr(self, "outcome"):
            self.outcome.status = status
            self.outcome.seconds = time.monotonic() - self.clock
            efforts = {name: effort.as_json() for name, effort in self.outcome.efforts.items()}
            self.folder.add_call(
                {
                    "started": self.started.isoformat(timespec="milliseconds"),
                    "recipe": self.recipe.name,
                    "status": status,
                    "reused": self.outcome.reused,
                    "seconds": round(self.outcome.seconds, 3),
                    "steps": efforts,
                }
            )
            if self.folder.manifest() is not None:
                drop_uses(self.folder.path)
            return self.outcome
        return Outcome("", status=status)

    def check_failed(self) -> None:
        """Raise TooManyFailed when the share of failed rows is above `max_failed`."""
        failed, records = self.outcome.failed, self.outcome.records
        # Exactly: 0.29 * 100 is less than 29.
        if failed <= Fraction(repr(self.recipe.max_failed)) * records:
            return
        raise TooManyFailed(
            f"{failed} of {records} rows failed, more than max_failed: {self.recipe.max_failed} "
            f'allows. No export was written. Look at them:  winnow query "SELECT * FROM failed" '
            f"--run {self.outcome.run_id}"
        )

    def _run_stage(self, planned: PlannedStage) -> tuple[StageOutcome, int]:
        planned = self._with_tuned_models(planned)
        stage, row_type = planned.stage, planned.row_type
        ctx = Context(seed=self.recipe.seed, engine=self.models.engine, neighbours=open_neighbours)
        scored = None
        if planned.scoring_key:
            store = ScoreStore(self.workspace.scores_of(planned.scoring_key))
            scored = Scoring(
                stage, row_type, self.rows, store, ctx, self.models, self.progress, self.scored
            ).run(retry_failed=self.retry_failed)
            self.scored[stage.label] = scored
        else:
            self.progress.start(stage.label, 0, 0, "rows")
        deciding = replace(ctx, progress=DecideProgress(stage.label, self.progress))
        decision = Deciding(stage, row_type, self.rows, scored, self.scored, deciding).run()
        self.folder.write_verdicts(planned.number, stage.label, decision.verdicts)
        created = Creating(
            stage,
            row_type,
            self.rows,
            self.workspace,
            ctx,
            creating_key(stage, self.plan.identities, self.recipe.seed),
            self.scored,
        ).run(decision)
        self._apply(planned, decision.verdicts)
        counts = decision.counts
        if created is not None:
            self.rows.add(created)
            counts = replace(counts, created=created.rows)
        outcome = StageOutcome(
            stage=stage.label,
            kind=stage.kind,
            row_type=row_type,
            counts=counts,
            reasons=decision.reasons,
            scoring_key=planned.scoring_key,
            parts=scored.parts if scored else (),
            created=created.key if created else "",
        )
        return outcome, scored.computed if scored else 0

    def _with_tuned_models(self, planned: PlannedStage) -> PlannedStage:
        """The stage, here and in the plan, once the rows are known of which its models are made.

        They are made when they are opened: where all scores are there, that is never.
        """
        names = needs_rows(self.recipe, [need.model for need in planned.stage.needs()])
        if not names:
            return planned
        for name in names:
            identity = self.tuned.settle(name, self.rows, planned.row_type)
            self.plan = replace(self.plan, identities={**self.plan.identities, name: identity})
            make = partial(self.tuned.make, name, self.plan.run_id, planned.row_type)
            self.models.make_before(name, self.tuned.engine_config(name), make)
        settled = with_models(planned, self.plan.identities, self.recipe.seed)
        stages = [settled if one.number == settled.number else one for one in self.plan.stages]
        self.plan = replace(self.plan, stages=tuple(stages))
        self._note_uses()
        return settled

    def _note_uses(self) -> None:
        keys = [planned.scoring_key for planned in self.plan.stages]
        note_uses(self.folder.path, [table.key for table in self.rows.tables], keys)

    def _apply(self, planned: PlannedStage, verdicts: pa.Table) -> None:
        """Take the rows that are gone out of the set; flagged ones flow on."""
        flagging = planned.stage.on_drop == "flag"
        self.rows.apply(planned.stage.label, planned.row_type, verdicts, flagging=flagging)

    def _restore(self, manifest: dict[str, Any]) -> bool:
        """Take rows and counts from a finished run; False, and nothing taken, when part of it is
        missing or damaged on disk.
        """
        outcomes = [StageOutcome.from_manifest(entry) for entry in manifest["stages"]]
        ledgers = [self.folder.read_verdicts(n, one.stage) for n, one in enumerate(outcomes)]
        verdicts = [found for found in ledgers if found is not None]
        making = [one.created for one in outcomes if one.created]
        created = [found for key in making if (found := open_table(self.workspace, key))]
        whole = len(verdicts) == len(outcomes) and len(created) == len(making)
        if not whole or not all(_parts_are_there(self.workspace, one) for one in outcomes):
            return False
        for planned, decided in zip(self.plan.stages, verdicts[1:], strict=True):
            self._apply(planned, decided)
        for table in created:
            self.rows.add(table)
        self.outcome.stages = outcomes
        return True


def _parts_are_there(workspace: Workspace, outcome: StageOutcome) -> bool:
    folder = workspace.scores_of(outcome.scoring_key)
    return all((folder / part).exists() for part in outcome.parts)


def _summary(outcome: StageOutcome) -> str:
    counts = outcome.counts
    parts = [f"{counts.kept} kept"]
    for number, what in (
        (counts.dropped, "dropped"),
        (counts.failed, "failed"),
        (counts.created, "created"),
    ):
        if number:
            parts.append(f"{number} {what}")
    return ", ".join(parts)
