"""The views of a run, as SQL that plain DuckDB runs.

rows                union by name over row types: id, type, place, ..., with the run's places
verdicts            every verdict of every stage: stage, id, place, verdict, reason, evidence
kept                rows that are still there at the end
dropped, failed     what went, with stage, reason and evidence beside the row
scores_<stage>      id and the score columns (clear.filter is scores_clear_filter)
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.runner.outcome import StageOutcome
from pipelines.runner.rowset import PLACES_PER_TABLE
from pipelines.store.atomic import write_bytes
from pipelines.store.runs import RunFolder, verdicts_name
from pipelines.store.scores import ScoreStore
from pipelines.store.tables import Table, open_table
from schemas.rows import row_schema

NAME = "views.sql"


def view_name(stage: str) -> str:
    """The view of a stage's scores: clear.filter -> scores_clear_filter."""
    return "scores_" + stage.replace(".", "_")


def write_views(folder: RunFolder, tables: Sequence[Table], stages: Sequence[StageOutcome]) -> None:
    sql = "\n".join(views(folder, tables, stages)) + "\n"
    write_bytes(folder.path / NAME, sql.encode())


def run_views(folder: RunFolder) -> list[str]:
    """The views of a finished run, from its manifest."""
    manifest = folder.manifest() or {}
    tables = [open_table(folder.workspace, entry["table"]) for entry in manifest["tables"]]
    missing = [e["table"] for e, t in zip(manifest["tables"], tables, strict=True) if t is None]
    if missing:
        raise FileNotFoundError(
            f"run {folder.run_id} needs the tables {', '.join(missing)}, which are gone; "
            "run its recipe again"
        )
    present = [table for table in tables if table is not None]
    return views(folder, present, [StageOutcome.from_manifest(e) for e in manifest["stages"]])


def views(folder: RunFolder, tables: Sequence[Table], stages: Sequence[StageOutcome]) -> list[str]:
    """One CREATE VIEW statement each, in an order in which they can be run."""
    statements = [_rows(tables), _verdicts(folder, stages)]
    gone = "SELECT id FROM verdicts WHERE verdict <> 'keep' AND NOT flagged"
    statements.append(_view("kept", f"SELECT * FROM rows WHERE id NOT IN ({gone})"))
    for name, verdict in (("dropped", "drop"), ("failed", "fail")):
        # A record that could not be read has a verdict and no row.
        select = (
            "SELECT v.stage, v.reason, v.evidence, v.flagged, v.id, v.place, "
            "r.* EXCLUDE (id, place) FROM verdicts v LEFT JOIN rows r ON r.id = v.id "
            f"WHERE v.verdict = '{verdict}'"
        )
        statements.append(_view(name, select))
    for number, stage in enumerate(stages):
        if stage.scoring_key:
            statements.append(_scores(folder, number, stage))
    return statements


def _rows(tables: Sequence[Table]) -> str:
    selects = []
    for number, table in enumerate(tables):
        if not table.rows:
            continue
        offset = number * PLACES_PER_TABLE
        selects.append(
            f"SELECT * REPLACE (place + {offset} AS place), '{table.row_type}' AS type "
            f"FROM {_parquet(table.parts)}"
        )
    if not selects:
        schema = row_schema("instruction")
        columns = ", ".join(f"NULL::{_sql_type(one.type)} AS {one.name}" for one in schema)
        selects.append(f"SELECT {columns}, 'instruction' AS type WHERE false")
    return _view("rows", " UNION ALL BY NAME ".join(selects))


def _sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of a type that the canonical columns have."""
    if pa.types.is_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{one.name} {_sql_type(one.type)}' for one in kind)})"
    if pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    return {"string": "VARCHAR", "int64": "BIGINT", "bool": "BOOLEAN"}[str(kind)]


def _verdicts(folder: RunFolder, stages: Sequence[StageOutcome]) -> str:
    selects = []
    for number, stage in enumerate(stages):
        path = (folder.path / verdicts_name(number, stage.stage)).resolve()
        flagged = "verdict = 'drop'" if stage.counts.flagged else "false"
        selects.append(
            f"SELECT {number} AS step, '{stage.stage}' AS stage, *, {flagged} AS flagged "
            f"FROM {_parquet([path])}"
        )
    return _view("verdicts", " UNION ALL BY NAME ".join(selects))


def _scores(folder: RunFolder, number: int, stage: StageOutcome) -> str:
    name = view_name(stage.stage)
    store = ScoreStore(folder.workspace.scores_of(stage.scoring_key))
    if not stage.parts:
        return _view(name, "SELECT NULL::VARCHAR AS id WHERE false")
    parts = [store.folder / part for part in stage.parts]
    verdicts = (folder.path / verdicts_name(number, stage.stage)).resolve()
    keyed = "key" in pq.read_schema(verdicts).names
    here = _parquet([verdicts])
    ids = (
        f"SELECT id, key FROM {here}"
        if keyed
        else f"SELECT r.id, r.content AS key FROM rows r WHERE r.id IN (SELECT id FROM {here})"
    )
    # One record per key: with scores before with an error, then the first part by name.
    best = (
        f"SELECT * EXCLUDE (filename) FROM {_parquet(parts, 'filename=true')} "
        "QUALIFY row_number() OVER (PARTITION BY key ORDER BY error IS NOT NULL, filename) = 1"
    )
    return _view(
        name, f"SELECT i.id, s.* EXCLUDE (key) FROM ({ids}) i JOIN ({best}) s ON i.key = s.key"
    )


def _view(name: str, select: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS {select};"


def _parquet(paths: Sequence[Path], *options: str) -> str:
    """DuckDB's read of just these files, whatever their folders are called."""
    # A folder like `lang=en` would become a column.
    given = ", ".join([_list(paths), "hive_partitioning=false", *options])
    return f"read_parquet({given})"


def _list(paths: Sequence[Path]) -> str:
    return "[" + ", ".join(_quoted(path.resolve()) for path in paths) + "]"


def _quoted(path: Path) -> str:
    # In brackets, the signs of a pattern mean themselves.
    plain = re.sub(r"[\[*?]", r"[\g<0>]", str(path))
    return "'" + plain.replace("'", "''") + "'"
