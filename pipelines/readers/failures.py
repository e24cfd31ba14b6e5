"""Records that gave no row, on their way into a table's `failed.parquet`."""

from collections import Counter
from typing import Any, Final

import orjson
import pyarrow as pa

from schemas.ids import failed_row_id
from schemas.ledger import VERDICTS

RAW_BYTES: Final = 2_000


class Failures:
    """Collects failed records of one file. `reasons` counts them all, by reason."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self.reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, line: int, raw: bytes, reason: str, error: str, **more: object) -> None:
        """One record. `raw`: all its bytes; the first 2,000 are kept."""
        evidence = {"file": self._file, "line": line, "error": error, **more, "raw": shown(raw)}
        self._rows.append(
            {
                "id": failed_row_id(self._file, line, raw),
                "place": line - 1,
                "verdict": "fail",
                "reason": reason,
                "evidence": orjson.dumps(evidence).decode(),
            }
        )
        self.reasons[reason] += 1

    def take(self) -> pa.Table:
        """What has been collected since the last call."""
        rows, self._rows = self._rows, []
        return pa.Table.from_pylist(rows, schema=VERDICTS)


def shown(raw: bytes) -> str:
    """The first 2,000 bytes as text; bytes that are no UTF-8 in hexadecimal."""
    return raw[:RAW_BYTES].decode("utf-8", "backslashreplace")
