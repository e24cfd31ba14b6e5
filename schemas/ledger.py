"""The ledger: what was decided about each row, and the counts that must add up."""

from dataclasses import asdict, dataclass
from typing import Final, Literal

import pyarrow as pa

Verdict = Literal["keep", "drop", "fail"]

# One file of these for each stage of a run. A stage may add columns of its own (rank, cluster).
VERDICTS: Final = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("place", pa.int64()),
        pa.field("verdict", pa.string()),  # keep, drop or fail
        pa.field("reason", pa.string()),  # short code; null for keep
        pa.field("evidence", pa.string()),  # JSON object as text, never null
    ]
)


@dataclass(frozen=True)
class Counts:
    """What became of the rows that one stage saw: `rows_in == kept + dropped + failed`, always.

    `flagged` counts the dropped rows that flow on all the same (`on_drop: flag`); `created` the
    rows that the stage added to the set.
    """

    rows_in: int
    kept: int
    dropped: int
    failed: int
    flagged: int = 0
    created: int = 0

    @property
    def balanced(self) -> bool:
        return self.rows_in == self.kept + self.dropped + self.failed

    def as_json(self) -> dict[str, int]:
        counts = asdict(self)
        counts["in"] = counts.pop("rows_in")
        return {
            name: counts[name] for name in ("in", "kept", "dropped", "failed", "flagged", "created")
        }
