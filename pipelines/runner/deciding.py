"""The verdicts of one stage: who failed, what `decide` says of the rest, that no row is lost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipelines.runner.conservation import check_conserved
from pipelines.runner.keys import reads_content_only
from pipelines.runner.matrix import fill_matrix
from pipelines.runner.rowset import RowSet
from pipelines.runner.scoring import PLACE, Scored, earlier_scores
from pipelines.store.scores import ERROR, KEY
from schemas.canonical import canonical
from schemas.errors import ContractError
from schemas.ledger import VERDICTS, Counts
from schemas.rows import KEY as ROW_KEY
from schemas.rows import RowType
from stages.base import FLAGGED, Stage
from stages.context import Context

OWN: Final = ("id", "verdict", "reason", "evidence")
_STATE: Final = {PLACE: pl.Int64, ERROR: pl.String}


@dataclass(frozen=True)
class Decision:
    """The verdicts of a stage, in order of place (`schemas.ledger.VERDICTS` and own columns)."""

    verdicts: pa.Table
    counts: Counts
    reasons: dict[str, int]


@dataclass
class Deciding:
    stage: Stage
    row_type: RowType
    rows: RowSet
    scored: Scored | None
    earlier: Mapping[str, Scored]
    ctx: Context

    def run(self) -> Decision:
        """Decide, check that every row came out once, and count."""
        ids = self.rows.scan(self.row_type).select("id", PLACE)
        state = self._scores()
        failed = self._failed(state)
        good = state.filter(pl.col(ERROR).is_null()).drop(ERROR)
        decided = self._decide(good)
        before = ids.collect()
        verdicts = self._placed(before, decided, failed)
        check_conserved(self.stage.label, before["id"], verdicts["id"])
        return Decision(
            self._canonical(verdicts), _counts(self.stage, verdicts), _reasons(verdicts)
        )

    def _scores(self) -> pl.DataFrame:
        """place, error and this stage's scalar scores, for every row, in order of place."""
        if self.scored is None:
            places = self.rows.scan(self.row_type).select(PLACE).collect()
            return places.with_columns(pl.lit(None, pl.String).alias(ERROR))
        names = scalars(self.stage.scores())
        records = self.scored.store.records(self.scored.parts, names)
        if records is None:  # there are no rows, so there are no records
            empty = pl.DataFrame(self.stage.scores().empty_table()).select(names)
            return pl.concat([pl.DataFrame(schema=_STATE), empty], how="horizontal")
        joined = self.scored.keys.lazy().join(
            records.with_columns(found=pl.lit(True)), on=KEY, how="left", maintain_order="left"
        )
        scores = joined.drop(KEY).collect()
        if scores["found"].null_count():
            raise RuntimeError(f"{self.stage.label}: rows without a record after scoring")
        return scores.drop("found")

    def _failed(self, state: pl.DataFrame) -> pl.DataFrame:
        failed = state.filter(pl.col(ERROR).is_not_null()).select(PLACE, ERROR)
        return failed.select(
            PLACE,
            verdict=pl.lit("fail"),
            reason=pl.lit("error"),
            evidence=pl.struct(error=pl.col(ERROR)).struct.json_encode(),
        )

    def _decide(self, good: pl.DataFrame) -> pl.DataFrame:
        places = good[PLACE]
        columns = {name: self._consulted(name, places) for name in self.stage.consults()}
        known = good.with_columns(series.alias(name) for name, series in columns.items())
        own = [name for name in known.columns if name != PLACE]
        rows = self.rows.scan(self.row_type).drop(own, strict=False)
        lazy = rows.join(known.lazy(), on=PLACE, how="inner", maintain_order="left")
        decided = self.stage.decide(lazy, self._context(places)).lazy().collect()
        return _checked(self.stage, decided)

    def _consulted(self, name: str, places: pl.Series) -> pl.Series:
        """A score of an earlier stage, or whether it flagged the row; one that it has not seen it
        has not flagged.
        """
        stage, _, column = name.rpartition(".")
        if column == FLAGGED:
            return places.is_in(pl.Series(self.rows.flagged(stage)).implode())
        return earlier_scores(self.earlier[stage], places, [column])[column]

    def _context(self, places: pl.Series) -> Context:
        if self.scored is None:
            return self.ctx
        scored, stage = self.scored, self.stage
        keys = scored.keys.filter(pl.col(PLACE).is_in(places.implode()))

        def matrix(column: str) -> npt.NDArray[np.float16]:
            if column not in stage.scores().names:
                raise KeyError(f"{stage.label} has no score column '{column}'")
            return fill_matrix(scored, keys, column)

        return self.ctx.with_matrix(matrix)

    def _placed(
        self, before: pl.DataFrame, decided: pl.DataFrame, failed: pl.DataFrame
    ) -> pl.DataFrame:
        """All verdicts with id and place, in order of place."""
        failed = failed.join(before, on=PLACE, how="left", maintain_order="left")
        alive = before if not failed.height else before.join(failed, on="id", how="anti")
        if alive["id"].equals(decided["id"]):  # nearly every stage keeps the order
            placed = decided.with_columns(alive[PLACE])
        else:
            placed = decided.join(before, on="id", how="left", maintain_order="left")
        if not failed.height:
            return placed.sort(PLACE) if not placed[PLACE].is_sorted() else placed
        return pl.concat([placed, failed], how="diagonal").sort(PLACE)

    def _canonical(self, verdicts: pl.DataFrame) -> pa.Table:
        own = [name for name in verdicts.columns if name not in VERDICTS.names]
        table = verdicts.select(*VERDICTS.names, *own).to_arrow()
        ledger = canonical(table, VERDICTS, who=f"the ledger of {self.stage.label}")
        for name in own:
            ledger = ledger.append_column(name, table[name])
        if self.scored is not None and not reads_content_only(self.stage, self.row_type):
            # Only this stage knows the row's key; the views need it to find the scores.
            ledger = ledger.append_column(KEY, self.scored.keys[KEY].to_arrow().cast(ROW_KEY))
        return ledger


def scalars(schema: pa.Schema) -> list[str]:
    """Names of the score columns that may be joined: all but vectors."""
    return [field.name for field in schema if not _is_vector(field.type)]


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind))


def _checked(stage: Stage, decided: pl.DataFrame) -> pl.DataFrame:
    """The stage's verdicts, or ContractError with all that is wrong with them."""
    missing = [name for name in OWN if name not in decided.columns]
    problems = [f"column '{name}' is missing" for name in missing]
    if not missing:
        if isinstance(decided.schema["evidence"], pl.Struct):
            decided = decided.with_columns(pl.col("evidence").struct.json_encode())
        unknown = set(decided["verdict"].unique().to_list()) - {"keep", "drop", "fail"}
        if unknown:
            problems.append(f"verdicts are keep, drop or fail, not {sorted(map(str, unknown))}")
        if decided.filter((pl.col("verdict") != "keep") & pl.col("reason").is_null()).height:
            problems.append("a drop or fail has no reason")
        if decided["evidence"].null_count():
            problems.append("evidence is null")
    if problems:
        raise ContractError(f"the ledger of {stage.label}", problems, there=decided.columns)
    return decided.drop(PLACE, strict=False)


def _counts(stage: Stage, verdicts: pl.DataFrame) -> Counts:
    by = dict(verdicts.group_by("verdict").len().iter_rows())
    dropped = by.get("drop", 0)
    return Counts(
        rows_in=verdicts.height,
        kept=by.get("keep", 0),
        dropped=dropped,
        failed=by.get("fail", 0),
        flagged=dropped if stage.on_drop == "flag" else 0,
    )


def _reasons(verdicts: pl.DataFrame) -> dict[str, int]:
    gone = verdicts.filter(pl.col("verdict") != "keep")
    by = gone.group_by("reason").len().sort("len", "reason", descending=[True, False])
    return dict(by.iter_rows())
