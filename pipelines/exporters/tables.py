"""Rows as Arrow tables: the canonical columns for parquet, a trainer's columns for `datasets`."""

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.exporters.lines import ID, by_function, is_plain
from pipelines.exporters.meta_columns import MetaColumn, parsed
from pipelines.exporters.records import (
    SCORES,
    completion_record,
    messages_record,
    preference_record,
)
from pipelines.exporters.spec import Layout
from schemas.canonical import canonical
from schemas.rows import MESSAGES, RowType, row_schema

INTERNAL: Final = ("id", "place", "content", "source", "parents", "meta")
OPTIONAL_TURN_FIELDS: Final = ("name", "tool_calls", "tool_call_id")
OPTIONAL: Final = ("tools", "label", *SCORES)
# `datasets` reads this type as its feature Json: a value that differs in shape from row to row.
JSON: Final = pa.json_()


class Encoder(Protocol):
    """Chunks of rows, with the columns `columns`, to tables of `schema`."""

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def schema(self) -> pa.Schema: ...

    def encode(self, chunk: pl.DataFrame) -> tuple[pa.Table, pl.Series]:
        """One row for each row, and why a row cannot be held: text (rows,), null where it can."""


class CanonicalEncoder:
    """Every canonical column but `meta`, and the columns that `meta` holds."""

    def __init__(self, row_type: RowType, metas: Sequence[MetaColumn]) -> None:
        self.columns = row_schema(row_type).names
        own = [field for field in row_schema(row_type) if field.name != "meta"]
        self._own = pa.schema(own)
        self._metas = metas
        self.schema = pa.schema([*own, *(pa.field(meta.name, meta.type) for meta in metas)])

    def encode(self, chunk: pl.DataFrame) -> tuple[pa.Table, pl.Series]:
        own = canonical(_arrow(chunk.drop("meta")), self._own, who="the export")
        values = parsed(chunk["meta"])
        columns = [*own.columns, *(meta.array(values) for meta in self._metas)]
        reasons = pl.Series("reason", [None] * chunk.height, dtype=pl.String)
        return pa.table(columns, schema=self.schema), reasons


class LayoutEncoder:
    """The columns that a trainer takes, those that no row uses left out, and those of `meta`.

    used: the optional columns that some row has, and the optional fields that some turn has.
    Tools and tool calls are of the type `arrow.json`, so that `datasets` hands out their values.
    """

    def __init__(
        self,
        row_type: RowType,
        layout: Layout,
        used: frozenset[str],
        metas: Sequence[MetaColumn],
        *,
        with_id: bool,
    ) -> None:
        self._layout = layout
        self._metas = metas
        self._turn_fields = ["role", "content", *(f for f in OPTIONAL_TURN_FIELDS if f in used)]
        self._table = row_schema(row_type)
        own = [f for f in self._table if f.name not in INTERNAL]
        self._own = [f.name for f in own if f.name not in OPTIONAL or f.name in used]
        self.columns = [*self._own, "id", "meta"]
        self._with_id = with_id
        fields = [pa.field(name, self._type(name)) for name in layout_columns(layout, self._own)]
        fields += [pa.field(ID, pa.string())] if with_id else []
        self.schema = pa.schema([*fields, *(pa.field(meta.name, meta.type) for meta in metas)])

    def encode(self, chunk: pl.DataFrame) -> tuple[pa.Table, pl.Series]:
        reasons = self._reasons(chunk)
        shaped = chunk
        if self._layout == "prompt-completion":
            last = pl.col("messages").list.len().cast(pl.Int64) - 1
            prompt = pl.col("messages").list.slice(0, last.clip(0)).alias("prompt")
            completion = pl.col("messages").list.tail(1).alias("completion")
            shaped = chunk.with_columns(prompt, completion).drop("messages")
        arrow = _arrow(shaped)
        names = layout_columns(self._layout, self._own)
        columns = [self._column(arrow.column(name), name) for name in names]
        if self._with_id:
            columns.append(arrow.column("id").cast(pa.string()).combine_chunks())
        values = parsed(chunk["meta"])
        columns += [meta.array(values) for meta in self._metas]
        return pa.table(columns, schema=self.schema), reasons

    def _type(self, name: str) -> pa.DataType:
        if name == "tools":
            return JSON
        if name in ("prompt", "completion") and self._layout == "prompt-completion":
            return self._messages_type()
        found = self._table.field(name).type
        return self._messages_type() if found == MESSAGES else found

    def _messages_type(self) -> pa.DataType:
        types = [JSON if name == "tool_calls" else pa.string() for name in self._turn_fields]
        fields = [pa.field(n, t) for n, t in zip(self._turn_fields, types, strict=True)]
        return pa.list_(pa.field("item", pa.struct(fields)))

    def _column(self, column: pa.ChunkedArray, name: str) -> pa.Array:
        wanted = self._type(name)
        if wanted == JSON:
            return pa.ExtensionArray.from_storage(JSON, column.cast(pa.string()).combine_chunks())
        if wanted == self._messages_type():
            return self._messages(column.cast(MESSAGES).combine_chunks(), wanted)
        return column.cast(wanted).combine_chunks()

    def _messages(self, messages: pa.ListArray, wanted: pa.DataType) -> pa.ListArray:
        """The same turns with the fields that are used."""
        lengths = messages.value_lengths().to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        fields = dict(
            zip([f.name for f in MESSAGES.value_type], messages.flatten().flatten(), strict=True)
        )
        children = [
            pa.ExtensionArray.from_storage(JSON, fields[name])
            if name == "tool_calls"
            else fields[name]
            for name in self._turn_fields
        ]
        turns = pa.StructArray.from_arrays(children, fields=list(wanted.value_type))
        return pa.ListArray.from_arrays(pa.array(offsets), turns, type=wanted)

    def _reasons(self, chunk: pl.DataFrame) -> pl.Series:
        """Only rows with tools, or without prompt or answer, can be unfit: those are looked at."""
        record = _RECORDS.get(self._layout)
        messages = [f.name for f in self._table if f.type == MESSAGES]
        if record is None or not messages:
            return pl.Series("reason", [None] * chunk.height, dtype=pl.String)
        lacking = [name for name in ("tools", "label", *SCORES) if name not in chunk.columns]
        chunk = chunk.with_columns(pl.lit(None).alias(name) for name in lacking)
        sound = is_plain(messages)
        if self._layout == "prompt-completion":
            answered = pl.col("messages").list.last().struct.field("role") == "assistant"
            asked = pl.col("messages").list.len() > 1
            sound = sound & answered.fill_null(False) & asked
        doubtful = ~chunk.select(sound).to_series()
        reasons = pl.Series("reason", [None] * chunk.height, dtype=pl.String)
        if not doubtful.any():
            return reasons
        _, found = by_function(chunk.filter(doubtful), record)
        return reasons.scatter(doubtful.arg_true(), found)


def layout_columns(layout: Layout, own: Sequence[str]) -> list[str]:
    """The columns of a layout, made of the canonical columns `own`."""
    if layout != "prompt-completion":
        return list(own)
    return ["prompt", "completion", *(name for name in own if name != "messages")]


def used_optionals(rows: pl.LazyFrame, row_type: RowType) -> frozenset[str]:
    """The optional columns that some row has, and the optional fields that some turn has."""
    schema = row_schema(row_type)
    present = {name: pl.col(name).is_not_null().any() for name in schema.names if name in OPTIONAL}
    messages = [field.name for field in schema if field.type == MESSAGES]
    for name in OPTIONAL_TURN_FIELDS if messages else ():
        there = pl.element().struct.field(name).is_not_null()
        present[name] = pl.any_horizontal(
            pl.col(column).list.eval(there).list.any().any() for column in messages
        )
    if not present:
        return frozenset()
    answer = rows.select(**present).collect(engine="streaming").row(0, named=True)
    return frozenset(name for name, there in answer.items() if there)


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


_RECORDS: Final = {
    "messages": messages_record,
    "prompt-completion": completion_record,
    "preference": preference_record,
}
