"""The first step of every run: the source becomes tables."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.readers.importing import import_source
from pipelines.readers.source import Source
from pipelines.runner.outcome import Effort, StageOutcome
from pipelines.runner.progress import Progress
from pipelines.runner.rowset import PLACES_PER_TABLE
from pipelines.store.parts import read_part
from pipelines.store.tables import Table
from pipelines.store.workspace import Workspace
from schemas.ledger import VERDICTS, Counts
from stages.engines import Usage

NAME = "import"


@dataclass(frozen=True)
class Importing:
    source: Source
    workspace: Workspace
    limit: int | None
    progress: Progress

    def run(self) -> tuple[list[Table], StageOutcome, Effort]:
        """Import what is not yet imported; count what came in and what could not be read."""
        clock = time.monotonic()
        self.progress.start(NAME, 0, 0, "bytes")
        read = _Reading(self.progress)
        tables = import_source(self.source, self.workspace, limit=self.limit, progress=read)
        rows = sum(table.rows for table in tables)
        failed = sum(table.failed for table in tables)
        reasons: dict[str, int] = {}
        for table in tables:
            for entry in pc.value_counts(read_part(table.failures)["reason"]).to_pylist():
                reasons[entry["values"]] = reasons.get(entry["values"], 0) + entry["counts"]
        kinds = "+".join(dict.fromkeys(table.row_type for table in tables))
        counts = Counts(rows_in=rows + failed, kept=rows, dropped=0, failed=failed)
        self.progress.finish(f"{rows} rows" + (f", {failed} failed" if failed else ""))
        outcome = StageOutcome(NAME, NAME, kinds, counts, reasons)
        return tables, outcome, Effort(time.monotonic() - clock)

    def ledger(self, tables: Sequence[Table]) -> pa.Table:
        """The records that gave no row, with the places of the run."""
        failed = [VERDICTS.empty_table()]
        for number, table in enumerate(tables):
            part = read_part(table.failures)
            place = pc.add(part["place"], number * PLACES_PER_TABLE)
            failed.append(part.set_column(part.column_names.index("place"), "place", place))
        return pa.concat_tables(failed)


@dataclass
class _Reading:
    """Turns the readers' account (bytes done of each file) into steps of the progress."""

    progress: Progress
    file: str = ""
    done: int = 0

    def __call__(self, file: str, done: int, total: int, rows: int) -> None:
        if file != self.file:
            self.progress.start(f"{NAME} {file}", total, 0, "bytes")
            self.file, self.done = file, 0
        self.progress.advance(done - self.done, Usage())
        self.done = done
