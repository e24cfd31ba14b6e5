"""How far off scores are as probabilities, by the labels of an audit.

The rows as they are count as right and the planted ones of all kinds as wrong, so that figures are
those of a set with that share of bad rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from pipelines.audit.auditing import Audited
from stages.clear.calibrators import FITS, Method, out_of_fold
from stages.clear.reliability import Reliability, reliability

# A few hundred labels: too few for isotonic regression.
METHOD: Final[Method] = "platt"
FOLDS: Final = 5
MIN_LABELS: Final = 20


@dataclass(frozen=True)
class Calibration:
    """One stage's score of quality against the truth.

    rows    id, label (bool: what a high score promises) and calibrated (0-1, out of fold; null with
            fewer than 20 labels of either kind)
    before  of the score as it is; after: of `calibrated`
    """

    stage: str
    rows: pl.DataFrame
    before: Reliability
    after: Reliability | None

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "method": METHOD,
            "before": self.before.as_json(),
            "after": None if self.after is None else self.after.as_json(),
        }


def calibrations(audited: Sequence[Audited], seed: int) -> list[Calibration]:
    """One for each stage with a score of quality and rows that have it."""
    stages = {one.stage.label: one.stage for one in audited if one.stage.quality}
    found = []
    for label, stage in stages.items():
        tables = [one.rows for one in audited if one.stage.label == label]
        rows = pl.concat(tables).unique("id", maintain_order=True)
        sound = rows.filter((pl.col("verdict") != "fail") & pl.col("value").is_not_null())
        if sound.height:
            high = pl.col("bad") != stage.less_is_worse
            found.append(_calibration(label, sound.select("id", "value", label=high), seed))
    return found


def _calibration(stage: str, rows: pl.DataFrame, seed: int) -> Calibration:
    scores, labels = rows["value"].to_numpy(), rows["label"].to_numpy()
    before = reliability(scores, labels)
    if min(before.true, before.rows - before.true) < MIN_LABELS:
        missing = pl.lit(None, pl.Float64).alias("calibrated")
        return Calibration(stage, rows.select("id", "label", missing), before, None)
    calibrated = out_of_fold(FITS[METHOD], scores, labels, FOLDS, seed)
    told = rows.select("id", "label", pl.Series("calibrated", calibrated))
    return Calibration(stage, told, before, reliability(calibrated, labels))
