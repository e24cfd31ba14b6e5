"""What the estimators of `clear.filter` have in common."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import polars as pl
import pyarrow as pa
from pydantic import Field

from schemas.rows import RowType
from stages.base import Stage
from stages.clear.outcomes import Scored, for_sound, score_table
from stages.clear.target import Target, target_of
from stages.context import Context
from stages.keep import MEDIAN, Keep, keep_highest


class ConfidenceFilter(Stage, frozen=True):
    """What all estimators have in common: the score column `confidence`, and `keep`."""

    kind: Literal["clear.filter"] = "clear.filter"
    keep: Keep = Field(default=MEDIAN, description="Above the median is the paper's.")

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    decide_only: ClassVar[frozenset[str]] = frozenset({"keep"})
    quality: ClassVar[str] = "confidence"

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        return keep_highest(rows, "confidence", self.keep, reason="low_confidence")


class ModelFilter(ConfidenceFilter, frozen=True):
    """What the estimators that ask a model have in common."""

    model: str = Field(description="The model of the recipe that judges: the base model.")
    chunk_rows: int = Field(default=64, ge=1)

    model_roles: ClassVar[frozenset[str]] = frozenset({"model", "nli", "embedder"})

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        pairs = zip(rows["key"].to_pylist(), rows["messages"].to_pylist(), strict=True)
        targets = [target_of(key, messages) for key, messages in pairs]
        return score_table(
            self.scores(), for_sound(targets, lambda found: self.estimate(found, ctx))
        )

    def estimate(self, targets: Sequence[Target], ctx: Context) -> Scored:
        """The scores of each target, or why it has none."""
        raise NotImplementedError
