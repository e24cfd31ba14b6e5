"""The source's other columns: which there are in `meta`, of what type, and back to real columns.

A column gets the type that it had in the source where that is known and holds the values; else the
type that its values have; else, where these are of several kinds, it is text that holds JSON.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import pyarrow as pa

from pipelines.exporters import exact_json
from pipelines.exporters.arrow_values import MISFITS, plain_type, to_array
from pipelines.exporters.report import ExportError

# A struct with more fields than this is a dictionary with open keys rather than a record.
_MOST_FIELDS: Final = 100
# float64 holds every integer of 15 digits.
_LONG_NUMBER: Final = re.compile(r"\d{16}")


@dataclass(frozen=True)
class MetaColumn:
    """A key of `meta` and the column that it becomes. `as_json`: its values stand there as JSON."""

    key: str
    name: str
    type: pa.DataType
    as_json: bool = False

    def array(self, metas: Sequence[Mapping[str, Any]]) -> pa.Array:
        """The column, (metas,), null where a row has no such key. Raises ExportError."""
        values = [meta.get(self.key) for meta in metas]
        if self.as_json:
            texts = [None if v is None else exact_json.dumps(v).decode() for v in values]
            return pa.array(texts, pa.string())
        try:
            return to_array(values, self.type)
        except MISFITS as error:
            raise ExportError(f"Column '{self.key}' is no {self.type}: {error}") from error


@dataclass
class _Seen:
    """What the survey learned of one key, chunk by chunk. `inferred` None: of several kinds."""

    declared: pa.DataType | None
    inferred: pa.DataType | None = field(default_factory=pa.null)
    long_numbers: bool = False

    def see(self, values: Sequence[Any]) -> None:
        if self.declared is not None:
            try:
                to_array(values, self.declared)
            except MISFITS:
                self.declared = None
        if self.inferred is not None:
            self.inferred = self._merged(values)

    def _merged(self, values: Sequence[Any]) -> pa.DataType | None:
        before = pa.schema([pa.field("", self.inferred)])
        try:
            now = pa.schema([pa.field("", pa.array(values).type)])
            merged = pa.unify_schemas([before, now], promote_options="permissive").field(0).type
        except MISFITS:
            return None
        if not self.long_numbers and "double" in str(merged):
            # Integers among fractions: pyarrow checks them within a chunk, not across chunks.
            self.long_numbers = any(_LONG_NUMBER.search(str(v)) for v in values if v is not None)
        crowded = str(merged).count(": ") > _MOST_FIELDS or "struct<>" in str(merged)
        return None if crowded else merged


def survey(
    metas: Iterable[pl.Series], schemas: Mapping[str, pa.Schema], reserved: Iterable[str]
) -> list[MetaColumn]:
    """The columns that `meta` becomes, in order of their first appearance.

    `metas` is the column `meta` in pieces; `schemas` are those of the sources. A key that is called
    like one of `reserved` becomes `meta_<key>`.
    """
    seen: dict[str, _Seen] = {}
    for piece in metas:
        values = parsed(piece)
        for key in dict.fromkeys(key for meta in values for key in meta):
            if key not in seen:
                seen[key] = _Seen(_declared(key, schemas))
            seen[key].see([meta.get(key) for meta in values])
    clash = re.compile(f"(meta_)*({'|'.join(map(re.escape, reserved))})")
    return [
        _column(key, f"meta_{key}" if clash.fullmatch(key) else key, one)
        for key, one in seen.items()
    ]


def parsed(meta: pl.Series) -> list[dict[str, Any]]:
    """The values of `meta`, {} where it is null."""
    return exact_json.loads_all(meta.fill_null("{}"))


def _declared(key: str, schemas: Mapping[str, pa.Schema]) -> pa.DataType | None:
    """The type of the column in all sources that have it, None where they differ or none has."""
    types = {schema.field(key).type for schema in schemas.values() if key in schema.names}
    return plain_type(types.pop()) if len(types) == 1 else None


def _column(key: str, name: str, seen: _Seen) -> MetaColumn:
    if seen.declared is not None:
        return MetaColumn(key, name, seen.declared)
    if seen.inferred is None or seen.long_numbers:
        return MetaColumn(key, name, pa.string(), as_json=True)
    return MetaColumn(key, name, seen.inferred)
