"""Rows that went, with their reasons: a seeded sample of them."""

from typing import Any

import orjson

from pipelines.report.database import QueryError, open_views, records
from pipelines.report.row_text import pieces
from pipelines.store.runs import RunFolder


def gone_rows(
    folder: RunFolder, *, verdict: str, stage: str | None, size: int, seed: int
) -> list[dict[str, Any]]:
    """A sample of the rows with that verdict (`drop` or `fail`), in order of place.

    The same seed gives the same rows. Each has id, stage, reason, evidence and `text`, the pieces
    of the row (empty for a record that gave no row). Raises QueryError for a stage that the run
    does not have.
    """
    manifest = folder.manifest() or {}
    there = [entry["stage"] for entry in manifest["stages"]]
    if stage is not None and stage not in there:
        raise QueryError(
            f"Run {folder.run_id} has no stage '{stage}'. Its stages: {', '.join(there)}."
        )
    view = "dropped" if verdict == "drop" else "failed"
    found = records(
        open_views(folder),
        f"SELECT * FROM (SELECT * FROM {view} WHERE $1::VARCHAR IS NULL OR stage = $1 "
        "ORDER BY md5(id || ' ' || $2::VARCHAR), id LIMIT $3) ORDER BY place, stage",
        [stage, seed, size],
    )
    return [
        {
            "id": row["id"],
            "stage": row["stage"],
            "reason": row["reason"],
            "evidence": orjson.loads(row["evidence"]),
            "text": dict_of(pieces(row)),
        }
        for row in found
    ]


def dict_of(named: list[tuple[str, str]]) -> dict[str, str]:
    """The pieces by name; the later turns of one role get numbers (`user 2`)."""
    texts: dict[str, str] = {}
    for name, text in named:
        count = sum(1 for there in texts if there == name or there.startswith(f"{name} "))
        texts[name if not count else f"{name} {count + 1}"] = text
    return texts
