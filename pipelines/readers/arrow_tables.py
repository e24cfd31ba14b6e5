"""Parquet and Arrow files (the latter as `datasets` writes them)."""

import base64
import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.readers.byte_chunks import Position
from pipelines.readers.records import AsText, Broken, Record, Records, finite

_BATCH_BYTES: Final = 8 << 20
_BATCH: Final = 5_000
_BUFFER: Final = 1 << 20


class ArrowReader:
    """Records of a parquet or Arrow file. `schema` is there after the first batch."""

    def __init__(self, path: Path, position: Position) -> None:
        self._path = path
        self._position = position
        self.schema: pa.Schema | None = None

    def parquet(self) -> Records:
        size = self._path.stat().st_size

        def opened() -> Iterator[pa.RecordBatch]:
            with pq.ParquetFile(self._path, buffer_size=_BUFFER, pre_buffer=False) as file:
                self.schema = file.schema_arrow
                for group in range(file.num_row_groups):
                    about = file.metadata.row_group(group)
                    each = max(1, about.total_byte_size // max(1, about.num_rows))
                    rows = max(1, min(_BATCH, _BATCH_BYTES // each))
                    yield from file.iter_batches(rows, row_groups=[group])
                    self._position.bytes = size * (group + 1) // file.num_row_groups

        return records_of(opened())

    def stream(self) -> Records:
        def opened() -> Iterator[pa.RecordBatch]:
            with pa.memory_map(str(self._path)) as file:
                reader = _arrow_batches(file)
                self.schema = reader.schema
                for batch in reader:
                    for start in range(0, batch.num_rows, _BATCH):
                        yield batch.slice(start, _BATCH)
                    self._position.bytes = file.tell()

        return records_of(opened())


def _arrow_batches(file: pa.NativeFile) -> pa.RecordBatchReader:
    """Of both Arrow formats: the streaming one, and the one that begins with ARROW1."""
    if file.read(6) != b"ARROW1":
        file.seek(0)
        return pa.ipc.open_stream(file)
    whole = pa.ipc.open_file(file)
    batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
    return pa.RecordBatchReader.from_batches(whole.schema, batches)


def records_of(batches: Iterator[pa.RecordBatch]) -> Records:
    """Records of Arrow batches. Where the data is no Arrow, or breaks off, is one broken record."""
    number = 1
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = "unreadable_file" if number == 1 else "truncated"
            yield [(number, b"", Broken(reason, f"{type(error).__name__}: {error}"))]
            return
        if batch is None:
            return
        yield list(_numbered(batch, number))
        number += batch.num_rows


def _numbered(batch: pa.RecordBatch, first: int) -> Iterable[Record]:
    names = batch.schema.names
    columns = [_values(batch.column(index)) for index in range(batch.num_columns)]
    for number, values in enumerate(zip(*columns, strict=True), first):
        broken = next((value for value in values if isinstance(value, Broken)), None)
        yield number, b"", broken or dict(zip(names, values, strict=True))


def _values(column: pa.Array) -> list[Any]:
    convert = _converter(column.type)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:  # one bad text: go on value by value
        return [_decoded(value, convert) for value in column]
    return [convert(value) for value in values] if convert else values


def _decoded(value: pa.Scalar, convert: Callable[[Any], Any] | None) -> Any:
    try:
        plain = value.as_py()
    except UnicodeDecodeError as error:
        return Broken("undecodable", f"no UTF-8: {error.reason} at byte {error.start}")
    return convert(plain) if convert else plain


def _converter(arrow: pa.DataType) -> Callable[[Any], Any] | None:
    """None for the types whose values are JSON values already, so that they cost nothing."""
    exact = (
        pa.types.is_string(arrow)
        or pa.types.is_large_string(arrow)
        or pa.types.is_string_view(arrow)
        or pa.types.is_integer(arrow)
        or pa.types.is_boolean(arrow)
        or pa.types.is_null(arrow)
    )
    if exact:
        return None
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return _converter(arrow.value_type) and json_value
    if pa.types.is_struct(arrow):
        inner = [_converter(field.type) for field in arrow]
        return json_value if any(inner) else None
    return json_value


def json_value(value: Any) -> Any:
    """`value` with whatever JSON cannot hold as `AsText`.

    bytes as base64; dates and times in ISO 8601; durations as whole microseconds; decimals and NaN
    as text; maps as lists of pairs.
    """
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, float):
        return finite(
            value, "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        )
    if value is None or isinstance(value, str | bool | int):
        return value
    return AsText(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dt.timedelta):
        return str(value // dt.timedelta(microseconds=1))
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)
