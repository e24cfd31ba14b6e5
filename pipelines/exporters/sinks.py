"""Tables into files: lines of text, parquet, Arrow streams. The same tables give the same bytes."""

from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.exporters.staging import Output

# What `datasets` writes itself; it finds a row by the batch that it is in.
ARROW_BATCH_ROWS: Final = 1_000


class Sink(Protocol):
    def write(self, table: pa.Table) -> None: ...

    def close(self) -> None:
        """Write what ends the file. The output itself stays open."""


class LineSink:
    """The texts of the first column (large_string, no nulls), one after another.

    As a JSON array, each text begins with the comma that parts it from the one before.
    """

    def __init__(self, output: Output, *, array: bool) -> None:
        self._output = output
        self._array = array
        if array:
            output.stream.write(b"[")

    def write(self, table: pa.Table) -> None:
        texts = table.column(0).combine_chunks()
        if len(texts) == 0:
            return
        # The texts lie side by side in Arrow's buffer: one write, no Python string for any row.
        _, offsets, data = texts.buffers()
        ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        begin = int(ends[0]) + (1 if self._array and not self._output.rows else 0)
        self._output.stream.write(memoryview(data)[begin : int(ends[-1])])
        self._output.rows += len(texts)

    def close(self) -> None:
        if self._array:
            self._output.stream.write(b"\n]\n")


class ParquetSink:
    """One row group for each table."""

    def __init__(self, output: Output, schema: pa.Schema) -> None:
        self._output = output
        self._writer = pq.ParquetWriter(output.stream, schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        if table.num_rows:
            self._writer.write_table(table)
            self._output.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()


class ArrowSink:
    """An Arrow stream, as `datasets` maps it into memory."""

    def __init__(self, output: Output, schema: pa.Schema) -> None:
        self._output = output
        self._writer = pa.ipc.new_stream(output.stream, schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, max_chunksize=ARROW_BATCH_ROWS)
        self._output.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()
