"""How far off the scores that `clear.calibrate` has calibrated were, and what it made of them."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.report.database import QueryError
from pipelines.store.runs import RunFolder
from stages.clear.calibrate import ClearCalibrate
from stages.clear.reliability import Reliability, reliability


@dataclass(frozen=True)
class Calibration:
    """Of one stage of a run. `rows`: all that it saw, of which only the labelled ones with a score
    stand in `before` (the score itself) and `after` (calibrated, out of fold).
    """

    stage: str
    score_column: str
    labels: str
    method: str
    rows: int
    before: Reliability
    after: Reliability

    def as_json(self) -> dict[str, Any]:
        named = ("stage", "score_column", "labels", "method", "rows")
        return {
            **{name: getattr(self, name) for name in named},
            "before": self.before.as_json(),
            "after": self.after.as_json(),
        }


def calibration(folder: RunFolder, stage: str) -> Calibration:
    """The calibration by that stage of a finished run.

    Raises QueryError where the run has no such stage, or it is none that calibrates, or saw no row.
    """
    kind = ClearCalibrate.model_fields["kind"].default
    entries = (folder.manifest() or {})["stages"]
    numbers = {one["stage"]: at for at, one in enumerate(entries) if one["kind"] == kind}
    if stage not in numbers:
        there = ", ".join(numbers) or f"none (it takes a stage of kind {kind})"
        raise QueryError(
            f"Run {folder.run_id} has no stage '{stage}' that calibrates. Those that do: {there}."
        )
    config = (folder.manifest() or {})["recipe"]["stages"][numbers[stage] - 1]
    ledger = pl.read_parquet(
        folder.verdicts_path(numbers[stage], stage), columns=["evidence", "calibrated", "label"]
    )
    known = ledger.select(
        "calibrated",
        "label",
        value=pl.col("evidence").cast(pl.String).str.json_path_match("$.value").cast(pl.Float64),
    ).drop_nulls()
    if not known.height:
        raise QueryError(f"{stage} saw no row in run {folder.run_id}: there is nothing to show.")
    labels = known["label"].to_numpy()
    return Calibration(
        stage=stage,
        score_column=config["score_column"],
        labels=config["labels"],
        method=config["method"],
        rows=ledger.height,
        before=reliability(known["value"].to_numpy(), labels),
        after=reliability(known["calibrated"].to_numpy(), labels),
    )
