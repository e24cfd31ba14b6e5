"""csv and tsv with a header. Every value is a text, as it stands."""

import csv
from collections.abc import Iterator
from typing import Any, Final

from pipelines.readers.byte_chunks import BreakError
from pipelines.readers.json_lines import Lines
from pipelines.readers.records import Broken, Record, Records

_BATCH: Final = 2_000
_BATCH_BYTES: Final = 1 << 20
# A quote that is never closed swallows the rest of the file: past this it is an error, not a value.
LARGEST_VALUE: Final = 1 << 28
_DELIMITERS: Final = ",;\t|"


def read_delimited(chunks: Iterator[bytes]) -> Records:
    """Records of a csv or tsv file; the delimiter is the likeliest of `, ; tab |` in the header."""
    csv.field_size_limit(LARGEST_VALUE)
    lines = _Text(chunks)
    first = next(lines, "")
    rows = csv.reader(_after(first, lines), delimiter=_delimiter(first), strict=True)
    batch: list[Record] = []
    size = 0
    parsed = _rows(rows)
    header = next(parsed, [])
    if isinstance(header, Broken):
        yield [(1, first.encode("utf-8", "surrogateescape"), header)]
        return
    number = 0
    for number, row in enumerate(parsed, 1):
        record = (number, *_record(header, row))
        batch.append(record)
        size += len(record[1])
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if lines.broken:
        batch.append((number + 1, b"", Broken("truncated", lines.broken)))
    yield batch


def _rows(rows: Iterator[list[str]]) -> Iterator[list[str] | Broken]:
    """Rows, blank lines left out; a row that is none as `Broken`."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            cut = "unexpected end of data" in str(error)
            reason = "a quote is opened and never closed" if cut else str(error)
            yield Broken("truncated" if cut else "broken_csv", reason)
            continue
        if row:
            yield row


def _record(header: list[str], row: list[str] | Broken) -> tuple[bytes, Any]:
    if isinstance(row, Broken):
        return b"", row
    raw = ",".join(row).encode("utf-8", "surrogateescape")
    if len(row) != len(header):
        message = f"{len(row)} values under {len(header)} column names"
        return raw, Broken("broken_csv", message)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return raw, Broken("undecodable", f"no UTF-8: {error.reason}")
    return raw, dict(zip(header, row, strict=True))


class _Text:
    """Lines of text with their ends; undecodable bytes stand as surrogates.

    broken: why the lines ended early, or "".
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.broken = ""
        self._lines = self._all(Lines(chunks))

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def __next__(self) -> str:
        return next(self._lines)

    def _all(self, lines: Lines) -> Iterator[str]:
        try:
            for _, batch in lines:
                for line in batch:
                    yield line.decode("utf-8", "surrogateescape") + "\n"
        except BreakError as error:
            self.broken = str(error)


def _after(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)
