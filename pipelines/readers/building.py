"""Rows of one part: collected one by one, turned into flat Arrow arrays together."""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import MESSAGE_FIELDS, contents_of, row_id
from schemas.rows import CONTENT, KEY, MESSAGE, MESSAGES, RowType, row_schema

PART_ROWS: Final = 50_000
PART_BYTES: Final = 32 << 20

# The columns that a converter returns, in this order; those of CONTENT come first.
CONVERTED: Final[dict[str, tuple[str, ...]]] = {
    "instruction": ("messages", "tools", "label"),
    "preference": (
        *("prompt", "chosen", "rejected", "tools"),
        *("score_chosen", "score_rejected", "margin"),
    ),
}


class RowBuilder:
    """Collects converted records up to the size of a part.

    They become Arrow arrays a few thousand at a time, while the processor still has them at hand:
    doing it once for a whole part takes twice as long and five times the memory.
    """

    def __init__(self, row_type: RowType, source: str) -> None:
        self._type = row_type
        self._source = source
        self._content = len(CONTENT[row_type])
        self._fresh: list[tuple[int, tuple[Any, ...], str]] = []
        # Takes one row: place, what the converter returned, meta.
        self.add: Callable[[tuple[int, tuple[Any, ...], str]], None] = self._fresh.append
        self.clear()

    def clear(self) -> None:
        self.rows = 0
        self._places: list[npt.NDArray[np.int64]] = []
        self._keys: list[bytes] = []
        self._chunks: list[pa.Table] = []
        self._bytes = 0

    def settle(self, size: int) -> None:
        """Turn the rows added since the last call, `size` bytes or so, into Arrow arrays."""
        if not self._fresh:
            return
        places, rows, metas = zip(*self._fresh, strict=True)
        keys = contents_of(self._type, [row[: self._content] for row in rows])
        self._chunks.append(self._arrays(rows, metas, keys))
        self._places.append(np.array(places, dtype=np.int64))
        self._keys.append(keys)
        self.rows += len(places)
        self._bytes += size
        self._fresh.clear()

    @property
    def full(self) -> bool:
        return self.rows >= PART_ROWS or self._bytes >= PART_BYTES

    @property
    def places(self) -> npt.NDArray[np.int64]:
        return np.concatenate(self._places)

    @property
    def keys(self) -> bytes:
        """The content keys, 16 bytes each, one after another."""
        return b"".join(self._keys)

    def table(self, ids: pa.Array) -> pa.Table:
        """The settled rows in the canonical schema. `ids` has one text for each."""
        schema = row_schema(self._type)
        own = pa.concat_tables(self._chunks)
        columns: dict[str, pa.Array | pa.ChunkedArray] = {
            **dict(zip(own.column_names, own.columns, strict=True)),
            "id": ids,
            "place": pa.array(self.places),
            "source": pa.repeat(pa.scalar(self._source, pa.string()), self.rows),
            "parents": _empty_lists(self.rows),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _arrays(self, rows: Sequence[tuple[Any, ...]], metas: Any, keys: bytes) -> pa.Table:
        content = pa.Array.from_buffers(KEY, len(rows), [None, pa.py_buffer(keys)])
        columns: dict[str, pa.Array] = {"content": content, "meta": pa.array(metas, pa.string())}
        schema = row_schema(self._type)
        for name, values in zip(CONVERTED[self._type], zip(*rows, strict=True), strict=True):
            kind = schema.field(name).type
            lists = kind.equals(MESSAGES)
            columns[name] = _message_lists(values) if lists else pa.array(values, kind)
        return pa.table(columns)


_fields: Final = itemgetter(*MESSAGE_FIELDS)


def _message_lists(lists: Sequence[Sequence[dict[str, Any]]]) -> pa.ListArray:
    offsets = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, lists), dtype=np.int32, count=len(lists)), out=offsets[1:])
    flat = list(chain.from_iterable(lists))
    columns = list(zip(*map(_fields, flat), strict=True)) or [()] * len(MESSAGE_FIELDS)
    fields = [pa.array(column, pa.string()) for column in columns]
    structs = pa.StructArray.from_arrays(fields, fields=list(MESSAGE))
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=MESSAGES)


def _empty_lists(rows: int) -> pa.ListArray:
    offsets = pa.array(np.zeros(rows + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()))


def content_ids(keys: bytes, occurrence: npt.NDArray[np.int64]) -> pa.Array:
    """`schemas.ids.row_id` of each 16-byte key: all at once, then the few that are repeats."""
    rows = len(keys) // 16
    offsets = np.arange(0, 32 * (rows + 1), 32, dtype=np.int32)
    letters = pa.py_buffer(keys.hex().encode("ascii"))
    ids = pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), letters)
    repeats = np.flatnonzero(occurrence).tolist()
    if not repeats:
        return ids
    named = [row_id(keys[16 * at : 16 * at + 16], int(occurrence[at])) for at in repeats]
    return pc.replace_with_mask(ids, pa.array(occurrence > 0), pa.array(named, pa.string()))
