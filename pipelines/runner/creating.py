"""Rows that a stage makes: stamped with ids, lineage and places, and stored as a table.

A created table is named by what it was made from: the stage, the tables of the run so far, what
the stage decided, and the earlier scores that it reads. So rows are made once.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from pipelines.runner.deciding import Decision
from pipelines.runner.keys import is_score, row_columns
from pipelines.runner.rowset import RowSet
from pipelines.runner.scoring import Scored, earlier_scores, with_reads
from pipelines.store.tables import Table, open_table, writing
from pipelines.store.workspace import Workspace
from schemas.canonical import canonical
from schemas.errors import ContractError
from schemas.ids import content_of, created_row_id, digest
from schemas.rows import CONTENT, RowType, row_schema
from stages.base import Stage
from stages.context import Context

SAMPLE = "sample"


@dataclass(frozen=True)
class Creating:
    """Makes the new rows of one stage. `key` is its `keys.creating_key`.

    earlier  the scores of earlier stages by their labels, of which `create` sees what it reads
    """

    stage: Stage
    row_type: RowType
    rows: RowSet
    workspace: Workspace
    ctx: Context
    key: str
    earlier: Mapping[str, Scored] = field(default_factory=dict)

    def run(self, decision: Decision) -> Table | None:
        """The table of the new rows; None for a stage that makes none."""
        stage = self.stage
        if type(stage).create is Stage.create and type(stage).gather is Stage.gather:
            return None
        verdicts = decision.verdicts
        tables = [
            table.key for table in self.rows.tables
        ]  # ids need not change with what they name
        made_from = [*_decided(verdicts), *self._scores_read(verdicts)]
        key = digest(self.key, tables, verdicts["id"].to_pylist(), made_from).hex()
        found = open_table(self.workspace, key)
        if found is not None:
            return found
        made = [rows for rows in (self._created(verdicts), self._gathered()) if rows is not None]
        table = pa.concat_tables(made) if made else None
        if table is None or not table.num_rows:
            return None
        new = _stamped(stage, self.row_type, table, self._places())
        with writing(self.workspace, key, self.row_type) as writer:
            writer.details["stage"] = stage.label
            for start in range(0, new.num_rows, stage.chunk_rows):
                writer.add(new.slice(start, stage.chunk_rows))
        return open_table(self.workspace, key)

    def _created(self, verdicts: pa.Table) -> pa.Table | None:
        """What `create` makes, in chunks of the rows that the stage decided about."""
        if type(self.stage).create is Stage.create:
            return None
        made = []
        places = verdicts["place"].to_numpy()
        decided = pl.DataFrame(verdicts).select("place", "verdict", "reason")
        columns = ["id", *row_columns(self.stage)]
        for batch in self.rows.batches(self.row_type, columns, places):
            known = pl.DataFrame({"place": pl.Series(batch["place"])}).join(
                decided, on="place", how="left", maintain_order="left"
            )
            rows = with_reads(batch, self.stage.reads(), self.earlier)
            rows = rows.append_column("verdict", known["verdict"].to_arrow())
            rows = rows.append_column("reason", known["reason"].to_arrow())
            new = self.stage.create(rows, self.ctx)
            if new is not None:
                made.append(self._checked(new))
        return pa.concat_tables(made) if made else None

    def _scores_read(self, verdicts: pa.Table) -> list[str]:
        """What names the earlier scores that the stage reads, of the rows that it decided about."""
        places = pl.Series("place", verdicts["place"])
        found = []
        for name in filter(is_score, self.stage.reads()):
            stage, _, column = name.rpartition(".")
            values = earlier_scores(self.earlier[stage], places, [column])
            # In pieces: these may be texts, as large as the rows.
            pieces = [digest(piece[column].to_list()).hex() for piece in values.iter_slices(50_000)]
            found.append(digest(pieces).hex())
        return found

    def _gathered(self) -> pa.Table | None:
        new = self.stage.gather(self.rows.scan(self.row_type), self.ctx)
        return None if new is None else self._checked(new.collect().to_arrow())

    def _checked(self, new: pa.Table) -> pa.Table:
        wanted = row_schema(self.row_type)
        own = [wanted.field(name) for name in (*CONTENT[self.row_type], "parents")]
        schema = pa.schema([*own, pa.field(SAMPLE, pa.int64())])
        return canonical(new, schema, who=f"the table that {self.stage.label} creates")

    def _places(self) -> dict[str, int]:
        ids = self.rows.scan(self.row_type).select("id", "place").collect()
        return dict(ids.iter_rows())


def _decided(verdicts: pa.Table) -> list[list[str | None]]:
    return [verdicts["verdict"].to_pylist(), verdicts["reason"].to_pylist()]


def _stamped(stage: Stage, row_type: RowType, new: pa.Table, places: dict[str, int]) -> pa.Table:
    """The new rows with id, place, content, source and meta, by (parents' places, sample).

    Raises ContractError when two rows of the same parents bear the same sample number.
    """
    rows = new.to_pylist()
    rows.sort(key=lambda row: ([places.get(one, -1) for one in row["parents"]], row[SAMPLE]))
    named = Counter((*row["parents"], row[SAMPLE]) for row in rows)
    repeated = [name for name, count in named.items() if count > 1]
    if repeated:
        raise ContractError(
            f"the table that {stage.label} creates",
            [f"parents and sample {name} stand there {named[name]} times" for name in repeated[:5]],
        )
    stamped = [
        {
            **{name: row[name] for name in (*CONTENT[row_type], "parents")},
            "id": created_row_id(stage.label, row["parents"], row[SAMPLE]),
            "place": place,
            "content": content_of(row_type, [row[name] for name in CONTENT[row_type]]),
            "source": stage.label,
            "meta": "{}",
        }
        for place, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(stamped, schema=row_schema(row_type))
