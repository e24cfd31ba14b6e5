"""Tables of rows: imported (one for each input file) or created by a stage. Never changed.

tables/<key>/part-00000.parquet ...   rows, `schemas.rows.row_schema(row_type)`, in order of place
tables/<key>/failed.parquet           records that gave no row, `schemas.ledger.VERDICTS`
tables/<key>/manifest.json            row_type, rows, failed, parts, and what the writer adds
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.store.atomic import remove_folder, replacing_folder
from pipelines.store.manifest import read_manifest, write_manifest
from pipelines.store.workspace import Workspace
from schemas.canonical import canonical
from schemas.ledger import VERDICTS
from schemas.rows import RowType, row_schema

FAILED: Final = "failed.parquet"


@dataclass(frozen=True)
class Table:
    """A complete table on disk. `details` is what its writer noted (source, schema, figures)."""

    key: str
    folder: Path
    row_type: RowType
    rows: int
    failed: int
    parts: tuple[Path, ...]
    details: dict[str, Any]

    @property
    def failures(self) -> Path:
        """The parquet file of the records that gave no row."""
        return self.folder / FAILED


def open_table(workspace: Workspace, key: str) -> Table | None:
    """The table of that key, or None where there is no complete one (a part may be gone)."""
    folder = workspace.table(key)
    found = read_manifest(folder)
    if found is None or not all((folder / name).exists() for name in (*found["parts"], FAILED)):
        return None
    return Table(
        key=key,
        folder=folder,
        row_type=found["row_type"],
        rows=found["rows"],
        failed=found["failed"],
        parts=tuple(folder / name for name in found["parts"]),
        details=found["details"],
    )


@dataclass
class TableWriter:
    """Collects the parts of one table in a temporary folder. Use it through `writing`."""

    folder: Path
    row_type: RowType
    details: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    failed: int = 0
    parts: list[str] = field(default_factory=list)
    _failures: pq.ParquetWriter | None = None

    def add(self, rows: pa.Table) -> None:
        """Write one part. Columns are brought to the canonical types; others are refused."""
        rows = canonical(rows, row_schema(self.row_type), who=f"the {self.row_type} table")
        name = f"part-{len(self.parts):05d}.parquet"
        pq.write_table(rows, self.folder / name, compression="zstd", compression_level=1)
        self.parts.append(name)
        self.rows += rows.num_rows

    def fail(self, failures: pa.Table) -> None:
        """Write records that gave no row (columns of `schemas.ledger.VERDICTS`)."""
        failures = canonical(failures, VERDICTS, who="the table of failed records")
        if self._failures is None:
            self._failures = pq.ParquetWriter(self.folder / FAILED, VERDICTS, compression="zstd")
        self._failures.write_table(failures)
        self.failed += failures.num_rows

    def close(self) -> None:
        """Finish the files. A table without failures has an empty file of them."""
        if self._failures is None:
            self.fail(VERDICTS.empty_table())
        if self._failures is not None:
            self._failures.close()


@contextmanager
def writing(workspace: Workspace, key: str, row_type: RowType) -> Iterator[TableWriter]:
    """A writer whose table appears in the workspace, whole, when the block ends well."""
    # In this order: asked first whether it is whole, one that another process has just finished
    # would be there by the second question, and go.
    if workspace.table(key).exists() and open_table(workspace, key) is None:
        remove_folder(workspace.table(key))  # somebody took files out of it
    with replacing_folder(workspace.table(key)) as folder:
        writer = TableWriter(folder, row_type)
        try:
            yield writer
        finally:
            writer.close()
        write_manifest(
            folder,
            {
                "row_type": row_type,
                "rows": writer.rows,
                "failed": writer.failed,
                "parts": writer.parts,
                "details": writer.details,
            },
        )
