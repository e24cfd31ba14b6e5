"""The rows of an audit: a seeded sample of the data, and the bad rows planted beside it.

Bad rows are copies of rows that are not in the sample, so that no filter for duplicates finds them
by the rows that they were made from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipelines.audit.planting import (
    Candidate,
    Kind,
    Planting,
    candidate_of,
    last_answer,
    plant,
)
from pipelines.runner.rowset import RowSet
from pipelines.store.tables import Table, open_table, writing
from pipelines.store.workspace import Workspace
from schemas.ids import content_of, digest
from schemas.rows import CONTENT, row_schema

ROW_TYPE: Final = "instruction"
CLEAN: Final = "clean"
# Rows from which bad ones are made: enough for kinds that fit one row in a hundred.
MAX_CANDIDATES: Final = 5_000


@dataclass(frozen=True)
class Sample:
    """clean: rows as they are; candidates: others, to be copied and spoiled. Row tables.

    data_rows: how many rows of their type the data has.
    """

    clean: pa.Table
    candidates: pa.Table
    data_rows: int


def draw(rows: RowSet, size: int, spare: int, seed: int) -> Sample:
    """`size` rows and up to 5,000 others, both in order of place.

    Of fewer than `size` + `spare` rows, `spare` (but at most half of all) are kept for candidates.
    """
    known = rows.scan(ROW_TYPE).select("id", "place").collect()
    # A Python loop: blake2b has no vectorised form; 1 s per million rows.
    drawn = [digest("sample", seed, one) for one in known["id"].to_list()]
    shuffled = known["place"].to_numpy()[np.argsort(np.array(drawn, "S16"), kind="stable")]
    clean = max(0, min(size, len(shuffled) - min(spare, len(shuffled) // 2)))
    return Sample(
        clean=_rows_at(rows, shuffled[:clean]),
        candidates=_rows_at(rows, shuffled[clean : clean + MAX_CANDIDATES]),
        data_rows=len(shuffled),
    )


def plant_kinds(
    candidates: pa.Table, kinds: Sequence[Kind], count: int, seed: int
) -> tuple[Planting, ...]:
    """Up to `count` bad rows of each kind. Kinds do not know of each other."""
    found: list[Candidate] = []
    for number, row in enumerate(candidates.select(["id", "messages"]).to_pylist()):
        candidate = candidate_of(number, row)
        if candidate is not None:
            found.append(candidate)
    return tuple(plant(kind, found, count, seed) for kind in kinds)


def planted_table(candidates: pa.Table, planting: Planting) -> pa.Table:
    """The bad rows of one kind: copies, with an id of their own and the row as their parent."""
    numbers = [planted.candidate.number for planted in planting.rows]
    rows = candidates.take(pa.array(numbers, pa.int64())).to_pylist()
    for place, (row, planted) in enumerate(zip(rows, planting.rows, strict=True)):
        row["messages"] = _answered(row["messages"], planted.answer)
        row["id"] = planted_id(planting.kind, planted.candidate.id)
        row["parents"] = [planted.candidate.id]
        row["place"] = place
        row["content"] = content_of(ROW_TYPE, [row[name] for name in CONTENT[ROW_TYPE]])
    return pa.Table.from_pylist(rows, schema=row_schema(ROW_TYPE))


def planted_id(kind: Kind, parent: str) -> str:
    """The id of the bad row of that kind that was made from a row."""
    return digest("planted", kind, parent).hex()


def stored(workspace: Workspace, name: str, rows: pa.Table) -> Table:
    """The rows as a table of the workspace, written unless it is there."""
    table = open_table(workspace, name)
    if table is None:
        with writing(workspace, name, ROW_TYPE) as writer:
            writer.add(rows)
        table = open_table(workspace, name)
    if table is None:
        raise AssertionError(f"the table {name} was written and is not there")
    return table


def _answered(turns: list[dict[str, Any]], answer: str) -> list[dict[str, Any]]:
    at = last_answer(turns)
    if at is None:
        raise AssertionError("a candidate has an answer")
    return [*turns[:at], {**turns[at], "content": answer}, *turns[at + 1 :]]


def _rows_at(rows: RowSet, places: np.ndarray[Any, Any]) -> pa.Table:
    """Whole rows at these places, in order, with places of their own from 0."""
    schema = row_schema(ROW_TYPE)
    found = list(rows.batches(ROW_TYPE, schema.names, np.sort(places)))
    table = pa.concat_tables(
        [batch.select(schema.names) for batch in found] or [schema.empty_table()]
    )
    at = schema.get_field_index("place")
    return table.set_column(at, schema.field(at), pa.array(range(table.num_rows), pa.int64()))
