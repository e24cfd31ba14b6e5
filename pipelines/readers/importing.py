"""A source becomes tables: one for each input file, in order.

A table is found again by its key: the importer's version, the bytes of the file, its name, what the
recipe says about the columns, the limit, and the key of the file before (ids are unique over the
whole source). A file whose table is there is hashed and not read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pipelines.readers.file_import import FileImport, Progress, SeenBefore, id_keys
from pipelines.readers.hub import open_hub
from pipelines.readers.inputs import Input, find_files
from pipelines.readers.source import FileSource, HubSource, described
from pipelines.store.parts import read_part
from pipelines.store.tables import Table, open_table
from pipelines.store.workspace import Workspace
from schemas.ids import digest

# Raised when the same file would give other rows.
VERSION: Final = 1


def _silent(file: str, done: int, total: int, rows: int) -> None:
    pass


def import_source(
    source: FileSource | HubSource,
    workspace: Workspace,
    *,
    limit: int | None = None,
    progress: Progress = _silent,
) -> list[Table]:
    """The tables of a source, read only where they are not there yet.

    `limit`: at most so many records are read, over all files. Records that give no row stand in a
    table's `failures` with file, line (from 1), reason and the first 2,000 bytes. `progress` is
    told (file, bytes done, bytes in all, rows) now and then.

    Raises SourceError for a path that leads nowhere, an unknown or ambiguous format, or columns
    that are not there.
    """
    inputs: Sequence[Input]
    inputs = [open_hub(source)] if isinstance(source, HubSource) else find_files(source)
    return import_inputs(inputs, source, workspace, limit=limit, progress=progress)


def import_inputs(
    inputs: Sequence[Input],
    source: FileSource | HubSource,
    workspace: Workspace,
    *,
    limit: int | None = None,
    progress: Progress = _silent,
) -> list[Table]:
    """Like `import_source`, for inputs that are found already."""
    earlier = _Earlier(SeenBefore(tuple(one.name for one in inputs)), source.id is not None)
    tables: list[Table] = []
    for number, one in enumerate(inputs):
        left = None if limit is None else limit - sum(t.rows + t.failed for t in tables)
        if left == 0:
            break
        before = tables[-1].key if tables else None
        content = one.fingerprint()
        key = digest(VERSION, content, one.name, described(source), left, before).hex()
        table = open_table(workspace, key)
        if table is None:
            row_type = tables[-1].row_type if tables else "instruction"
            file = FileImport(one, number, source, left, row_type, earlier.seen(), progress)
            table = file.write(workspace, key, content)
        else:
            earlier.skipped.append((number, table))
            progress(one.name, one.size, one.size, table.rows)
        tables.append(table)
    return tables


@dataclass
class _Earlier:
    """Keys of the rows of earlier files; those of finished tables are read only when asked for."""

    known: SeenBefore
    named: bool
    skipped: list[tuple[int, Table]] = field(default_factory=list)

    def seen(self) -> SeenBefore:
        for number, table in self.skipped:
            for part in table.parts:
                rows = read_part(part, ["place", "id" if self.named else "content"])
                values = rows.column(1).to_pylist()
                keys = id_keys(values) if self.named else b"".join(values)
                self.known.add(keys, number, rows["place"].to_numpy().astype(np.int64))
        self.skipped.clear()
        return self.known
