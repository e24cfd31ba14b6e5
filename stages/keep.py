"""The `keep` rules: which rows stay, given one number for each.

    keep: {above: median}    the upper half (Chen & Mueller 2024, arXiv 2403.12776)
    keep: {above: 0.6}       a fixed threshold
    keep: {quantile: 0.5}    above the quantile: at most the share 1 - q stays
    keep: {budget: 10000}    the n highest

Thresholds are order statistics (values that occur), never means: a float mean is not bit-stable.
The q-quantile of n values is the lowest one that at least q * n values do not exceed (the first
definition of Hyndman & Fan); the median is the 0.5-quantile, the lower of the two middle values of
an even count. Above it stand the same rows as above the mean of the two.

Rows at a threshold are dropped, except that a budget is filled up with them, the first by place.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, Discriminator, Field, Tag

from stages.verdicts import as_json, verdict

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """What a rule keeps.

    kept: bool (rows,). threshold: None where nothing had to be cut. ties: rows at the threshold.
    """

    kept: npt.NDArray[np.bool_]
    threshold: float | None
    ties: int


class KeepAbove(BaseModel, frozen=True, extra="forbid"):
    above: Literal["median"] | Annotated[float, Field(strict=True, allow_inf_nan=False)]

    def cut(self, values: Values) -> Cut:
        """Keep what is greater than the threshold. `values` are finite."""
        threshold = quantile(values, 0.5) if self.above == "median" else float(self.above)
        return _above(values, threshold)


class KeepQuantile(BaseModel, frozen=True, extra="forbid"):
    quantile: float = Field(gt=0, lt=1)

    def cut(self, values: Values) -> Cut:
        """Keep what is greater than the quantile. `values` are finite."""
        return _above(values, quantile(values, self.quantile))


class KeepBudget(BaseModel, frozen=True, extra="forbid"):
    budget: int = Field(ge=1, strict=True)

    def cut(self, values: Values) -> Cut:
        """Keep the `budget` highest; among equals the first. `values` are finite, by place."""
        if len(values) <= self.budget:
            return Cut(np.ones(len(values), bool), None, 0)
        threshold = float(np.partition(values, -self.budget)[-self.budget])
        tied = np.flatnonzero(values == threshold)
        kept = values > threshold
        kept[tied[: self.budget - np.count_nonzero(kept)]] = True
        return Cut(kept, threshold, len(tied))


def _rule(given: Any) -> str | None:
    """The key of a rule that is being read, or of one that was."""
    names = given if isinstance(given, dict) else getattr(type(given), "model_fields", {})
    return next((name for name in ("above", "quantile", "budget") if name in names), None)


Keep: TypeAlias = Annotated[
    Annotated[KeepAbove, Tag("above")]
    | Annotated[KeepQuantile, Tag("quantile")]
    | Annotated[KeepBudget, Tag("budget")],
    Discriminator(
        _rule,
        custom_error_type="keep_rule",
        custom_error_message="a keep rule is one of {above: median}, {above: NUMBER}, "
        "{quantile: SHARE} and {budget: ROWS}",
    ),
]
MEDIAN = KeepAbove(above="median")


def quantile(values: Values, q: float) -> float | None:
    """The lowest value that at least `q` * n values do not exceed; None for no values."""
    if not len(values):
        return None
    rank = -(-Fraction(repr(q)) * len(values) // 1)  # rounded up, exactly: 0.07 * 100 is 7
    index = min(max(int(rank), 1), len(values)) - 1
    return float(np.partition(values, index)[index])


def _above(values: Values, threshold: float | None) -> Cut:
    if threshold is None:
        return Cut(np.zeros(0, bool), None, 0)
    return Cut(values > threshold, threshold, int(np.count_nonzero(values == threshold)))


def keep_highest(
    rows: pl.LazyFrame, column: str, keep: KeepAbove | KeepQuantile | KeepBudget, *, reason: str
) -> pl.LazyFrame:
    """id, verdict, reason, evidence of each of `rows` (in order of place) by the value in `column`.

    Evidence: value, threshold and, for rows at the threshold, how many such there are (`ties`). A
    row whose value is null or not finite fails and does not move the threshold.
    """
    # Only id and value: a threshold broadcast into a frame with texts would hold all texts.
    frame = rows.select("id", value=pl.col(column).cast(pl.Float64)).collect()
    sound = frame["value"].is_finite().fill_null(False).to_numpy()
    cut = keep.cut(frame["value"].to_numpy()[sound])
    kept = np.zeros(len(sound), bool)
    kept[sound] = cut.kept
    value, threshold = pl.col("value"), pl.lit(cut.threshold, pl.Float64)
    evidence = (
        pl.when(value == threshold)
        .then(as_json(value=value, threshold=threshold, ties=cut.ties))
        .otherwise(as_json(value=value, threshold=threshold))
    )
    judged = frame.lazy().with_columns(kept=pl.Series(kept), sound=pl.Series(sound))
    decision = pl.when("sound").then(pl.col("kept"))
    return judged.select("id", *verdict(decision, reason=reason, evidence=evidence))
