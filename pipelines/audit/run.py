"""`winnow audit`: what each stage of a recipe catches of known-bad rows planted in the user's data.

    audits/<id>/tables/<kind>/    the rows: `clean` as they are, and the planted ones of each kind
    audits/<id>/rows.parquet      which rows: kind, id, parent, prompt, answer, the right answer
    audits/<id>/scores.parquet    stage, kind, id, bad, value, calibrated, verdict, reason, evidence
    audits/<id>/figures.parquet   the table that is printed
    audits/<id>/report.json       all figures and findings; written last: the audit is finished
    audits/<id>/uses-*.json       what an unfinished audit holds on to (`pipelines.store.uses`)

An audit reads the input and shares imported tables and scores with runs. It writes no run and no
verdict of one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pipelines.audit.auditing import Audited, Auditing, LeftOut, audited_stages
from pipelines.audit.calibration import calibrations
from pipelines.audit.errors import AuditImpossible
from pipelines.audit.findings import figures, finding
from pipelines.audit.planting import KINDS, Kind, Planting
from pipelines.audit.sample import (
    CLEAN,
    ROW_TYPE,
    Sample,
    draw,
    plant_kinds,
    planted_table,
    stored,
)
from pipelines.audit.tables import REPORT, figure_json, write_tables
from pipelines.engines.config import identity
from pipelines.engines.libraries import Find, is_installed
from pipelines.engines.opening import open_engine, open_neighbours
from pipelines.recipe import Recipe
from pipelines.runner.importing import Importing
from pipelines.runner.models import Models
from pipelines.runner.outcome import Effort
from pipelines.runner.plan import Plan, PlannedStage, make_plan
from pipelines.runner.progress import Progress, Silent
from pipelines.runner.readiness import check_before_import, check_plan
from pipelines.runner.rowset import RowSet
from pipelines.store.atomic import sweep, write_bytes
from pipelines.store.manifest import dump
from pipelines.store.uses import drop_uses, note_uses
from pipelines.store.workspace import Workspace
from schemas.ids import digest
from stages.context import Context
from stages.engines import Engine

# Raised when the same rows would be spoiled, or the same verdicts counted, in another way.
VERSION: Final = 2

Report = dict[str, Any]


@dataclass(frozen=True)
class AuditOptions:
    """rows: of the data, as they are; planted: bad rows of each kind; precision: 0-1, wanted."""

    rows: int = 200
    planted: int = 30
    seed: int = 0
    kinds: tuple[Kind, ...] = KINDS
    precision: float = 0.9


@dataclass
class Audit:
    """One audit of one recipe over the data that it names."""

    recipe: Recipe
    workspace: Workspace
    options: AuditOptions = field(default_factory=AuditOptions)
    progress: Progress = field(default_factory=Silent)
    open_engine: Callable[[Any], Engine] = open_engine
    identify: Callable[[Any], dict[str, Any]] = identity
    find: Find = is_installed

    def run(self) -> Report:
        """The report; from disk, with `reused`, when this very audit has been finished before.

        Raises AuditImpossible when there is nothing to audit, and what a run raises.
        """
        sweep(self.workspace.root)
        stages, left_out = audited_stages(self.recipe)
        if not stages:
            lines = [f"{one.stage} is left out: {one.why}" for one in left_out]
            raise AuditImpossible("\n".join(["This recipe cannot be audited:", *lines]))
        recipe = self.recipe.model_copy(update={"stages": stages})
        check_before_import(recipe, self.workspace, self.find)
        tables, _, _ = Importing(recipe.source, self.workspace, None, self.progress).run()
        plan = make_plan(recipe, tables, self.identify)
        here = self._folder(plan)
        if (here.root / REPORT).exists():
            report = orjson.loads((here.root / REPORT).read_bytes())
            # The stages that are audited are the same; what else the recipe has may differ.
            now = {"recipe": self.recipe.name, "left_out": _told(left_out)}
            return {**report, **now, "folder": str(here.root), "reused": True}
        # The note of an audit that is stopped stays: it can go on.
        note_uses(here.root, [one.key for one in tables], [one.scoring_key for one in plan.stages])
        sample, plantings = self._rows(RowSet(list(tables)))
        check_plan(plan.stages, recipe.models, self.workspace, self.find)
        auditing = self._auditing(recipe, here, sample, plantings)
        audited, efforts = self._audited(auditing, plan)
        report = self._report(here, sample, plantings, audited)
        report["budgets"] = [one.as_json() for one in auditing.budgets]
        report["left_out"] = _told(left_out)
        report["efforts"] = efforts
        write_bytes(here.root / REPORT, dump(report))
        drop_uses(here.root)
        return {**report, "folder": str(here.root), "reused": False}

    def _folder(self, plan: Plan) -> Workspace:
        """Where the audit stands: named by all that its figures follow from."""
        asked = self.options
        named = digest(
            *("audit", VERSION, plan.run_id, asked.rows, asked.planted, asked.seed),
            *(asked.kinds, asked.precision),
        )
        return Workspace(self.workspace.audits / named.hex()[:16])

    def _rows(self, rows: RowSet) -> tuple[Sample, tuple[Planting, ...]]:
        asked = self.options
        sample = draw(rows, asked.rows, asked.planted, asked.seed)
        plantings = plant_kinds(sample.candidates, asked.kinds, asked.planted, asked.seed)
        if not any(planting.rows for planting in plantings):
            raise AuditImpossible(
                f"No kind of bad row ({', '.join(asked.kinds)}) can be made of the "
                f"{sample.candidates.num_rows} {ROW_TYPE} rows that there are to make it of."
            )
        return sample, plantings

    def _auditing(
        self, recipe: Recipe, here: Workspace, sample: Sample, plantings: Sequence[Planting]
    ) -> Auditing:
        made = [planting for planting in plantings if planting.rows]
        tables = [stored(here, CLEAN, sample.clean)]
        tables += [
            stored(here, planting.kind, planted_table(sample.candidates, planting))
            for planting in made
        ]
        models = Models(recipe.models, self.open_engine)
        ctx = Context(seed=recipe.seed, engine=models.engine, neighbours=open_neighbours)
        kinds = [planting.kind for planting in made]
        return Auditing(self.workspace, tables, kinds, models, ctx, self.progress, sample.data_rows)

    def _audited(
        self, auditing: Auditing, plan: Plan
    ) -> tuple[list[Audited], list[dict[str, Any]]]:
        models = auditing.models
        audited: list[Audited] = []
        efforts: list[dict[str, Any]] = []
        try:
            for planned in plan.stages:
                found, effort = self._stage(auditing, planned)
                audited += found
                efforts.append({"stage": planned.stage.label, **effort.as_json()})
                later = [one.stage for one in plan.stages if one.number > planned.number]
                models.keep_only({need.model for stage in later for need in stage.needs()})
        finally:
            models.close()
        return audited, efforts

    def _stage(self, auditing: Auditing, planned: PlannedStage) -> tuple[list[Audited], Effort]:
        clock, before = time.monotonic(), auditing.models.usage()
        found = auditing.run_stage(planned)
        scored = auditing.scored.get(planned.stage.label)
        usage = auditing.models.usage().minus(before)
        seconds = time.monotonic() - clock
        return found, Effort(seconds, scored.computed if scored else 0, usage)

    def _report(
        self,
        here: Workspace,
        sample: Sample,
        plantings: Sequence[Planting],
        audited: Sequence[Audited],
    ) -> Report:
        asked = self.options
        kinds = [planting.kind for planting in plantings if planting.rows]
        lines = figures(audited, kinds, asked.seed, asked.precision)
        calibrated = calibrations(audited, asked.seed)
        write_tables(here.root, sample, plantings, audited, calibrated, lines)
        return {
            "audit": here.root.name,
            "recipe": self.recipe.name,
            "clean": sample.clean.num_rows,
            "precision": asked.precision,
            "planted": [
                {
                    "kind": one.kind,
                    "rows": len(one.rows),
                    "wanted": asked.planted,
                    "tried": one.tried,
                }
                for one in plantings
            ],
            "calibrations": [one.as_json() for one in calibrated],
            "figures": [figure_json(line) for line in lines],
            "findings": [
                {"kind": one.kind, "caught": one.caught, "text": one.text}
                for one in (finding(kind, lines) for kind in kinds)
            ],
        }


def _told(left_out: tuple[LeftOut, ...]) -> list[dict[str, str]]:
    return [{"stage": one.stage, "why": one.why} for one in left_out]
