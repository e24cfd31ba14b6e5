"""`clear.calibrate`: see ClearCalibrate."""

import json
from typing import ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import Field

from schemas.errors import ContractError
from schemas.rows import RowType
from stages.base import Stage
from stages.clear.calibrators import FITS, Method, out_of_fold
from stages.context import Context
from stages.verdicts import as_json

_LABELS: Final = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


class ClearCalibrate(Stage, frozen=True):
    """Say what a score is worth: the probability, 0-1, that a row of that score is right.

    Fitted on the rows that have a true label. Those get their probability out of fold, from
    calibrators that have not seen them (`folds` of them, seeded), all others from one that has seen
    all labels. Every row is kept, and its score stays as it is. Own columns: `calibrated`, null for
    a row without a score (one that was made later), and `label`. Evidence: value, calibrated.

    The labels are true or false, or 1 or 0, in a field of meta or in the row's own `label`; a
    higher score must mean that true is more likely. Fewer than `min_labels` of either kind end the
    run. `winnow show --calibration` prints how far off the score is before and after.

    `isotonic` takes any rising form and is better from about 500 labels on, `platt`, which has two
    parameters, below (`python -m benchmarks.calibration`). As equal scores of different folds get
    slightly different probabilities, keep rules belong on the score.

    Source: Zadrozny & Elkan 2002, https://doi.org/10.1145/775047.775151 (isotonic); Platt 1999.
    """

    kind: Literal["clear.calibrate"] = "clear.calibrate"
    score_column: str = Field(
        default="clear.filter.confidence",
        pattern=r"^.+\..+$",
        description="A score of an earlier stage.",
    )
    labels: str = Field(
        default="label", pattern=r"^(label|meta\..+)$", description="label, or meta.<field>."
    )
    method: Method = "isotonic"
    folds: int = Field(default=5, ge=2)
    min_labels: int = Field(default=20, ge=2, description="True and false ones, each.")

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)

    def consults(self) -> tuple[str, ...]:
        return (self.score_column,)

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.DataFrame:
        frame = rows.select(
            "id", value=pl.col(self.score_column), text=self._label_text()
        ).collect()
        labels = frame["text"].replace_strict(_LABELS, default=None, return_dtype=pl.Boolean)
        frame = frame.with_columns(label=labels)
        if frame.height:  # of no rows there is nothing to say
            self._check(frame, rows)
        known = frame.with_columns(pl.col("value").cast(pl.Float64))
        told = known.with_columns(calibrated=self._calibrated(known, ctx.seed))
        return told.select(
            "id",
            verdict=pl.lit("keep"),
            reason=pl.lit(None, pl.String),
            evidence=as_json(value=pl.col("value"), calibrated=pl.col("calibrated")),
            calibrated="calibrated",
            label="label",
        )

    def _label_text(self) -> pl.Expr:
        if self.labels == "label":
            return pl.col("label").cast(pl.String)
        field = self.labels.removeprefix("meta.")
        return pl.col("meta").str.json_path_match(f"$['{field}']").str.to_lowercase()

    def _calibrated(self, known: pl.DataFrame, seed: int) -> pl.Series:
        values = known["value"].to_numpy()
        scored = known["value"].is_not_null().to_numpy()
        labelled = scored & known["label"].is_not_null().to_numpy()
        found = np.full(known.height, np.nan)
        if labelled.any():
            fit = FITS[self.method]
            scores, labels = values[labelled], known["label"].to_numpy()[labelled].astype(bool)
            found[labelled] = out_of_fold(fit, scores, labels, self.folds, seed)
            others = scored & ~labelled
            if others.any():
                found[others] = fit(scores, labels)(values[others])
        return pl.Series(found).fill_nan(None)

    def _check(self, frame: pl.DataFrame, rows: pl.LazyFrame) -> None:
        """Raise ContractError with all that keeps a calibrator from being fitted."""
        problems = []
        kind = frame.schema["value"]
        if not (kind.is_numeric() or kind == pl.Null):
            problems.append(f"the score {self.score_column} is {kind}, not a number")
        unread = frame.filter(pl.col("text").is_not_null() & pl.col("label").is_null())["text"]
        if len(unread):
            several = unread.unique(maintain_order=True)[:5].str.slice(0, 40)
            examples = ", ".join(map(repr, several))
            problems.append(
                f"{self.labels} is neither true, false, 1 nor 0 in {len(unread)} rows: {examples}"
            )
        usable = frame.filter(pl.col("value").is_not_null())["label"]
        true, false = (int((usable == label).sum()) for label in (True, False))
        if min(true, false) < self.min_labels:
            problems.append(
                f"{true} rows with a score are labelled true and {false} false by {self.labels}; "
                f"at least {self.min_labels} of each are needed"
            )
        if problems:
            raise ContractError(self.label, problems, there=_fields(rows))


def _fields(rows: pl.LazyFrame) -> list[str]:
    """Where labels may stand: `label`, and the meta fields of the first row."""
    (first,) = rows.select("meta").head(1).collect()["meta"]
    return ["label", *(f"meta.{name}" for name in json.loads(first))]
