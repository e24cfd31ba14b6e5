"""Reading one parquet file.

`pyarrow.parquet.read_table` goes through `pyarrow.dataset`, which imports pandas where that is
installed: 0.3 s at every start of the command line for nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The columns (all of them for None) of one file, in the order of `columns`."""
    with pq.ParquetFile(path) as file:
        table = file.read(None if columns is None else list(columns))
    return table if columns is None else table.select(list(columns))
