"""How fast, and in how much memory, a file is imported: rows/s and the peak of the process.

python benchmarks/import_rows.py rows.jsonl
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource
from pipelines.store.workspace import Workspace


def main(path: str) -> None:
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as folder:
        clock, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
        [table] = import_source(FileSource(path=path), Workspace(Path(folder)))
        wall, cpu = time.perf_counter() - clock, time.process_time() - cpu
        own = time.thread_time() - own
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{table.rows} rows, {table.failed} failed: {wall:.1f} s "
        f"({cpu:.1f} s of CPU, {own:.1f} of them in the reading thread), "
        f"{table.rows / wall:,.0f} rows/s, peak {peak:,.0f} MiB (before: {base:,.0f} MiB)"
    )


if __name__ == "__main__":
    main(sys.argv[1])
