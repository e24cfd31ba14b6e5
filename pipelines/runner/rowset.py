"""The rows of a run: its tables in order, and which of the rows are still there.

Tables are never copied along. The rows that a stage sees are the tables' rows less the places of
those that earlier stages dropped or failed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from pipelines.store.parts import read_part
from pipelines.store.tables import Table
from schemas.rows import ROW_TYPES, RowType, row_schema

# Each table has room for 2**40 rows; place = table number * 2**40 + place within the table.
PLACES_PER_TABLE: Final = 1 << 40

Places = npt.NDArray[np.int64]


@dataclass
class RowSet:
    """Tables of a run, in order of place, the places that are gone, and those that are flagged."""

    tables: list[Table] = field(default_factory=list)
    gone: dict[RowType, list[Places]] = field(default_factory=dict)
    flags: dict[str, Places] = field(default_factory=dict)

    def add(self, table: Table) -> None:
        """Append a table; its rows come after all rows so far."""
        self.tables.append(table)

    def row_types(self) -> tuple[RowType, ...]:
        """The row types that there are rows of, in the order of `schemas.rows`."""
        present = {table.row_type for table in self.tables if table.rows}
        return tuple(row_type for row_type in ROW_TYPES if row_type in present)

    def total(self, row_type: RowType) -> int:
        return sum(table.rows for _, table in self._of(row_type))

    def remove(self, row_type: RowType, places: Places) -> None:
        """These rows are gone for all later stages."""
        if places.size:
            self.gone.setdefault(row_type, []).append(places)

    def apply(self, stage: str, row_type: RowType, verdicts: pa.Table, *, flagging: bool) -> None:
        """Take out what these verdicts (place, verdict) failed and, unless `flagging`, dropped.

        What a flagging stage dropped stays and is noted as flagged by it.
        """
        verdict, places = pl.Series(verdicts["verdict"]), verdicts["place"].to_numpy()
        gone = verdict == "fail" if flagging else verdict != "keep"
        self.remove(row_type, places[gone.to_numpy()])
        if flagging:
            self.flags[stage] = np.sort(places[(verdict == "drop").to_numpy()])

    def flagged(self, stage: str) -> Places:
        """Sorted places of the rows that a stage with `on_drop: flag` has dropped."""
        return self.flags.get(stage, np.empty(0, np.int64))

    def removed(self, row_type: RowType) -> Places:
        """Sorted places of all rows of the type that are gone."""
        parts = self.gone.get(row_type, [])
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def scan(self, row_type: RowType) -> pl.LazyFrame:
        """Every row of the type that is still there, all columns, in order of place."""
        scans = [
            pl.scan_parquet(list(table.parts), glob=False).with_columns(pl.col("place") + offset)
            for offset, table in self._of(row_type)
            if table.rows
        ]
        if not scans:
            return pl.DataFrame(row_schema(row_type).empty_table()).lazy()
        rows = pl.concat(scans)
        gone = self.removed(row_type)
        if not gone.size:
            return rows
        removed = pl.LazyFrame({"place": gone})
        return rows.join(removed, on="place", how="anti", maintain_order="left")

    def batches(
        self, row_type: RowType, columns: Sequence[str], places: Places
    ) -> Iterator[pa.Table]:
        """`place` and `columns` of the rows at these (sorted) places, part by part, in order."""
        wanted = list(dict.fromkeys(["place", *columns]))
        for offset, table in self._of(row_type):
            for part in table.parts:
                here = read_part(part, ["place"])["place"].to_numpy() + offset
                chosen = np.flatnonzero(_among(here, places))
                if not chosen.size:
                    continue
                rows = read_part(part, wanted)
                if chosen.size < here.size:
                    rows = rows.take(chosen)
                at = rows.column_names.index("place")
                yield rows.set_column(at, "place", pa.array(here[chosen]))

    def _of(self, row_type: RowType) -> list[tuple[int, Table]]:
        return [
            (number * PLACES_PER_TABLE, table)
            for number, table in enumerate(self.tables)
            if table.row_type == row_type
        ]


def _among(values: Places, places: Places) -> npt.NDArray[np.bool_]:
    """Which of the sorted `values` stand in the sorted `places`."""
    if not places.size:
        return np.zeros(values.size, bool)
    position = np.minimum(np.searchsorted(places, values), places.size - 1)
    found: npt.NDArray[np.bool_] = places[position] == values
    return found
