"""What became of each row of a run, and how two runs differ in that."""

from dataclasses import dataclass
from typing import Any, Final

import duckdb
import pyarrow as pa

from pipelines.report.database import open_views, records
from pipelines.store.runs import RunFolder

# A row goes once; a flagged row flows on, so its verdict is none that it goes by.
_FATES: Final = """
WITH gone AS (
    SELECT * FROM verdicts WHERE verdict <> 'keep' AND NOT flagged
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY step) = 1
)
SELECT coalesce(r.id, g.id) AS id, coalesce(r.place, g.place) AS place,
       coalesce(g.verdict, 'keep') AS verdict, coalesce(g.stage, '') AS stage,
       coalesce(g.reason, '') AS reason, coalesce(g.evidence, '{}') AS evidence
FROM rows r FULL JOIN gone g ON r.id = g.id
"""
_CHANGES: Final = """
SELECT coalesce(a.id, b.id) AS id, coalesce(b.place, a.place) AS place,
       a.verdict AS verdict_a, a.stage AS stage_a, a.reason AS reason_a, a.evidence AS evidence_a,
       b.verdict AS verdict_b, b.stage AS stage_b, b.reason AS reason_b, b.evidence AS evidence_b
FROM a FULL JOIN b ON a.id = b.id
WHERE (a.verdict, a.stage, a.reason) IS DISTINCT FROM (b.verdict, b.stage, b.reason)
"""


@dataclass(frozen=True)
class Fate:
    """verdict: keep, drop, fail, or absent for a row that the run has not."""

    verdict: str
    stage: str = ""
    reason: str = ""
    evidence: str = "{}"

    def __str__(self) -> str:
        if self.verdict in ("keep", "absent"):
            return "kept" if self.verdict == "keep" else "not there"
        what = "dropped" if self.verdict == "drop" else "failed"
        return f"{what} by {self.stage}: {self.reason}"


@dataclass(frozen=True)
class Change:
    id: str
    before: Fate
    after: Fate


@dataclass(frozen=True)
class Difference:
    """changes: every row whose fate differs, in order of place. same: how many rows' does not."""

    same: int
    changes: tuple[Change, ...]

    def groups(self) -> dict[tuple[str, str], list[Change]]:
        """Changes by (before, after), the largest group first."""
        found: dict[tuple[str, str], list[Change]] = {}
        for change in self.changes:
            found.setdefault((str(change.before), str(change.after)), []).append(change)
        return dict(sorted(found.items(), key=lambda group: (-len(group[1]), group[0])))


def fates(folder: RunFolder) -> pa.Table:
    """id, place, verdict, stage, reason and evidence of every row and of every failed record."""
    return open_views(folder).sql(_FATES).to_arrow_table()


def difference(before: RunFolder, after: RunFolder) -> Difference:
    """How the fates of the rows in `after` differ from those in `before`."""
    connection = duckdb.connect()
    connection.register("a", fates(before))
    connection.register("b", fates(after))
    changes = tuple(
        Change(row["id"], _fate(row, "a"), _fate(row, "b"))
        for row in records(connection, f"{_CHANGES} ORDER BY place, id")
    )
    total = records(connection, "SELECT count(*) AS n FROM a FULL JOIN b ON a.id = b.id")[0]["n"]
    return Difference(total - len(changes), changes)


def _fate(row: dict[str, Any], side: str) -> Fate:
    if row[f"verdict_{side}"] is None:
        return Fate("absent")
    return Fate(*(row[f"{name}_{side}"] for name in ("verdict", "stage", "reason", "evidence")))
