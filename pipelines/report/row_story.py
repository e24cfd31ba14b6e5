"""The whole story of one row: what it says, where it comes from, every score, every verdict."""

from typing import Any, Final

import duckdb
import orjson

from pipelines.report.database import NoSuchRow, open_views, records
from pipelines.report.row_text import pieces
from pipelines.report.samples import dict_of
from pipelines.runner.views import view_name
from pipelines.store.runs import RunFolder

EXAMPLES: Final = 5


def story(folder: RunFolder, prefix: str) -> dict[str, Any]:
    """The story of the row whose id begins with `prefix`.

    id, type, place, source, text (pieces), meta, parents and children (id, verdict), steps: for
    each stage that saw the row its verdict, reason, evidence and scores. A record that gave no row
    has no type and stands under the step `import`. Raises NoSuchRow.
    """
    connection = open_views(folder)
    row_id = _full_id(connection, folder, prefix)
    found = records(connection, "SELECT * FROM rows WHERE id = $1", [row_id])
    row = found[0] if found else {}
    manifest = folder.manifest() or {}
    return {
        "run_id": folder.run_id,
        "id": row_id,
        "type": row.get("type"),
        "place": row.get("place"),
        "source": row.get("source"),
        "text": dict_of(pieces(row)),
        "tools": row.get("tools"),
        "meta": orjson.loads(row["meta"]) if row.get("meta") else {},
        "parents": [_relative(connection, parent) for parent in row.get("parents") or []],
        "children": _children(connection, row_id),
        "steps": _steps(connection, row_id, manifest["stages"]),
    }


def _full_id(connection: duckdb.DuckDBPyConnection, folder: RunFolder, prefix: str) -> str:
    found = records(
        connection,
        "SELECT DISTINCT id FROM (SELECT id FROM rows UNION ALL SELECT id FROM verdicts) "
        f"WHERE starts_with(id, $1) ORDER BY id <> $1, id LIMIT {EXAMPLES + 1}",
        [prefix],
    )
    ids = [str(row["id"]) for row in found]
    if not ids:
        raise NoSuchRow(
            f"Run {folder.run_id} has no row '{prefix}'. Ids are to be found with:  "
            f'winnow query "SELECT id FROM rows LIMIT 10" --run {folder.run_id}'
        )
    if len(ids) > 1 and ids[0] != prefix:
        more = ", …" if len(ids) > EXAMPLES else ""
        raise NoSuchRow(f"Several rows begin with '{prefix}': {', '.join(ids[:EXAMPLES])}{more}.")
    return ids[0]


def _children(connection: duckdb.DuckDBPyConnection, row_id: str) -> list[dict[str, Any]]:
    children = records(
        connection, "SELECT id FROM rows WHERE list_contains(parents, $1) ORDER BY place", [row_id]
    )
    return [_relative(connection, str(child["id"])) for child in children]


def _relative(connection: duckdb.DuckDBPyConnection, row_id: str) -> dict[str, Any]:
    gone = records(
        connection,
        "SELECT stage, verdict, reason FROM verdicts WHERE id = $1 AND verdict <> 'keep' "
        "AND NOT flagged ORDER BY step LIMIT 1",
        [row_id],
    )
    return {
        "id": row_id,
        **(gone[0] if gone else {"stage": None, "verdict": "keep", "reason": None}),
    }


def _steps(
    connection: duckdb.DuckDBPyConnection, row_id: str, stages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    verdicts = records(connection, "SELECT * FROM verdicts WHERE id = $1 ORDER BY step", [row_id])
    scored = {entry["stage"] for entry in stages if entry["scoring_key"]}
    return [
        {
            "stage": verdict["stage"],
            "verdict": verdict["verdict"],
            "flagged": verdict["flagged"],
            "reason": verdict["reason"],
            "evidence": orjson.loads(verdict["evidence"]),
            "scores": _scores(connection, verdict["stage"], row_id)
            if verdict["stage"] in scored
            else {},
        }
        for verdict in verdicts
    ]


def _scores(connection: duckdb.DuckDBPyConnection, stage: str, row_id: str) -> dict[str, Any]:
    found = records(connection, f"SELECT * FROM {view_name(stage)} WHERE id = $1", [row_id])
    return {
        name: _short(value)
        for row in found
        for name, value in row.items()
        if name not in ("id", "error") or (name == "error" and value is not None)
    }


def _short(value: object) -> object:
    """A vector is told by its length."""
    if isinstance(value, list | tuple) and len(value) > 16:
        return f"{len(value)} numbers"
    return value
