"""One input file becomes one table."""

import base64
import gc
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipelines.readers.building import RowBuilder, content_ids
from pipelines.readers.byte_chunks import Position
from pipelines.readers.failures import Failures
from pipelines.readers.formats.detection import SAMPLE, Found, check_there, find_format
from pipelines.readers.formats.fields import MISSING, InexactError, RecordError, peek, wrong_type
from pipelines.readers.inputs import Input, Reading
from pipelines.readers.occurrences import Numbers, Occurrences
from pipelines.readers.records import Record, Records, compact, inexact, parse_exactly
from pipelines.readers.source import FileSource, HubSource, SourceError
from pipelines.store.tables import Table, TableWriter, open_table, writing
from pipelines.store.workspace import Workspace
from schemas.rows import RowType

Progress = Callable[[str, int, int, int], None]  # file, bytes done, bytes in all, rows

# Bytes at the beginning of a file within which there must be a sound record, if there is any.
_SAMPLE_BYTES: Final = 64 << 20
_PLACES: Final = 40  # bits of a label that hold the place; the file's number stands above


@dataclass(frozen=True)
class SeenBefore:
    """Keys of all rows of the source so far, each labelled with its file and place."""

    names: Sequence[str]
    _keys: Occurrences = field(default_factory=Occurrences)

    def add(self, keys: bytes, file: int, places: Numbers) -> tuple[Numbers, Numbers]:
        """How many equal keys came before each, and the label of the first of them."""
        return self._keys.add(keys, places + (file << _PLACES))

    def where(self, label: int) -> dict[str, object]:
        return {"file": self.names[label >> _PLACES], "line": (label & (1 << _PLACES) - 1) + 1}


class FileImport:
    """Reads `file`, the `number`-th of its source, at most `limit` records of it."""

    def __init__(
        self,
        file: Input,
        number: int,
        source: FileSource | HubSource,
        limit: int | None,
        default_type: RowType,
        seen: SeenBefore,
        progress: Progress,
    ) -> None:
        self._file = file
        self._number = number
        self._source = source
        self._limit = limit
        self._default_type = source.row_type or default_type
        self._seen = seen
        self._progress = progress
        self._failures = Failures(file.name)
        self._ids: list[tuple[str, bytes]] = []  # with the record's bytes, where `id` is named

    def write(self, workspace: Workspace, key: str, fingerprint: str) -> Table:
        """The table, complete on disk. Raises SourceError where the format is not known."""
        position = Position()
        reading = self._file.open(position)
        held, sample = _sampled(reading.records, self._file.name)
        found = self._format(sample)
        row_type = found.row_type if found else self._default_type
        with (
            _no_garbage_collection(),
            writing(workspace, key, row_type) as writer,
            _Behind(writer) as parts,
        ):
            self._convert = found.convert if found else None
            self._builder = RowBuilder(row_type, self._file.name)
            for batch in _limited(chain(held, reading.records), self._limit):
                self._take(batch)
                if self._builder.full or len(self._failures) >= 10_000:
                    self._flush(writer, parts)
                rows = parts.rows + self._builder.rows
                self._progress(self._file.name, position.bytes, self._file.size, rows)
            self._flush(writer, parts)
            parts.finish()
            writer.details.update(self._details(found, reading), fingerprint=fingerprint)
        table = open_table(workspace, key)
        if table is None:
            raise AssertionError(f"the table {key} was written and is not there")
        return table

    def _format(self, sample: list[dict[str, Any]]) -> Found | None:
        source = self._source
        found = find_format(self._file.name, sample, source.format, source.columns)
        if source.id is not None:
            check_there(self._file.name, sample, (source.id,), "id:")
        if found and source.row_type not in (None, found.row_type):
            raise SourceError(
                f"{self._file.name} holds {found.row_type} rows ({found.name}); "
                f"the recipe says row_type: {source.row_type}."
            )
        return found

    def _take(self, batch: list[Record]) -> None:
        size = 0
        for line, raw, value in batch:
            if type(value) is not dict:
                self._failures.add(line, raw, value.reason, value.error)
                continue
            try:
                size += self._row(line, raw, value)
            except RecordError as error:
                written = raw or compact(value).encode()
                self._failures.add(line, written, error.reason, str(error))
        self._builder.settle(size)

    def _row(self, line: int, raw: bytes, value: dict[str, Any]) -> int:
        """Collect one row; returns its bytes, roughly."""
        if self._convert is None:
            raise AssertionError("a sound record in a file without any")
        rest = value if raw else dict(value)  # converters take out what they use
        try:
            name = self._name(rest)
            values = self._convert(rest)
            meta = _meta(rest) if rest else "{}"
        except InexactError:
            rest = parse_exactly(raw)
            if type(rest) is not dict:
                raise RecordError(rest.reason, rest.error) from None
            name = self._name(rest)
            values = self._convert(rest)
            meta = _meta(rest)
        self._builder.add((line - 1, values, meta))
        if name is not None:
            self._ids.append((name, raw or compact(value).encode()))
        return len(raw) or _size(values) + len(meta)

    def _name(self, record: dict[str, Any]) -> str | None:
        """The row's own id; None where the source names no column for it."""
        return None if self._source.id is None else _id(record, self._source.id)

    def _flush(self, writer: TableWriter, parts: "_Behind") -> None:
        """Write what has been collected."""
        if self._builder.rows:
            rows = self._named() if self._source.id is not None else self._unnamed()
            parts.add(rows)
            self._builder.clear()
            self._ids.clear()
        if len(self._failures):
            writer.fail(self._failures.take())

    def _unnamed(self) -> pa.Table:
        keys = self._builder.keys
        count, _ = self._seen.add(keys, self._number, self._builder.places)
        return self._builder.table(content_ids(keys, count))

    def _named(self) -> pa.Table:
        """The rows under their own ids; a row whose id was there before is failed."""
        places = self._builder.places
        ids = [name for name, _ in self._ids]
        count, first = self._seen.add(id_keys(ids), self._number, places)
        for again in np.flatnonzero(count).tolist():
            where = self._seen.where(int(first[again]))
            name, raw = self._ids[again]
            message = f"the id '{name[:200]}' is that of {where['file']}, line {where['line']}"
            line = int(places[again]) + 1
            self._failures.add(line, raw, "duplicate_id", message, first=where)
        return self._builder.table(pa.array(ids, pa.string())).filter(pa.array(count == 0))

    def _details(self, found: Found | None, reading: Reading) -> dict[str, Any]:
        schema = reading.schema()
        serialized = None if schema is None else base64.b64encode(schema.serialize()).decode()
        return {
            "source": self._file.name,
            "format": found.name if found else None,
            "columns": dict(found.columns) if found else {},
            "id": self._source.id,
            "source_schema": serialized,
            "reasons": dict(sorted(self._failures.reasons.items())),
        }


class _Behind:
    """Writes parts in a thread, one at a time, while the next one is being read of a file."""

    def __init__(self, writer: TableWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self.rows = 0

    def __enter__(self) -> "_Behind":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def add(self, rows: pa.Table) -> None:
        self.finish()
        if rows.num_rows:
            self._pending = self._pool.submit(self._writer.add, rows)
            self.rows += rows.num_rows

    def finish(self) -> None:
        """Wait for the part in hand; raises what went wrong with it."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Reading makes millions of objects and no cycles; to look for some costs a quarter more."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def id_keys(ids: Sequence[str]) -> bytes:
    """16 bytes for each id, in a row."""
    digests = (hashlib.blake2b(name.encode(), digest_size=16).digest() for name in ids)
    return b"".join(digests)


def _id(record: dict[str, Any], column: str) -> str:
    value = peek(record, column)
    if value is MISSING:
        raise RecordError("missing_field", f"the id column '{column}' is missing")
    if value is None or value == "":
        raise RecordError(
            "null_field", f"the id in '{column}' is {'null' if value is None else 'empty'}"
        )
    if type(value) is float and inexact(value):
        raise InexactError
    if type(value) is not str and type(value) is not int:
        raise wrong_type(column, value, "a text or an integer as id")
    return str(value)


def _meta(rest: dict[str, Any]) -> str:
    if inexact(rest):
        raise InexactError
    return compact(rest)


def _size(values: tuple[Any, ...]) -> int:
    """Characters of all messages."""
    lists = (value for value in values if type(value) is list)
    return sum(len(turn["content"] or "") for turn in chain.from_iterable(lists))


def _sampled(records: Records, file: str) -> tuple[list[list[Record]], list[dict[str, Any]]]:
    """(the first batches, the first sound records among them)."""
    held: list[list[Record]] = []
    sample: list[dict[str, Any]] = []
    size = 0
    for batch in records:
        held.append(batch)
        sample += [value for _, _, value in batch if type(value) is dict]
        size += sum(len(raw) for _, raw, _ in batch)
        if len(sample) >= SAMPLE or (sample and size > _SAMPLE_BYTES):
            break
        if size > _SAMPLE_BYTES:
            raise SourceError(f"the first {size >> 20} MB of {file} hold no sound record.")
    return held, sample[:SAMPLE]


def _limited(batches: Iterator[list[Record]], limit: int | None) -> Iterator[list[Record]]:
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        yield batch[:left]
        left -= len(batch[:left])
        if left == 0:
            return
