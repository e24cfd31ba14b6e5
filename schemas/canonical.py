"""One spelling for each Arrow type.

The same table is `string` after pyarrow, `large_string` after polars, has its list children renamed
by DuckDB and carries a `huggingface` metadata entry after `datasets`. Stage borders speak one
spelling: that of `schemas.rows`.
"""

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ContractError


def canonical(table: pa.Table, schema: pa.Schema, *, who: str, remedy: str = "") -> pa.Table:
    """`table` with exactly the columns, order, types and (no) metadata of `schema`.

    Further columns are left out. A list column of `schema` without a fixed size also accepts a
    fixed-size list and keeps its size (vectors whose dimension only the model knows).

    Raises ContractError, naming every column that is missing or cannot be cast without loss.
    """
    problems: list[str] = []
    columns: list[pa.ChunkedArray] = []
    fields: list[pa.Field] = []
    for field in schema:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            problems.append(f"column '{field.name}' is missing")
            continue
        column = table.column(index)
        wanted = _wanted(field.type, column.type)
        try:
            columns.append(column if column.type.equals(wanted) else pc.cast(column, wanted))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            problems.append(f"column '{field.name}' is {column.type}, expected {field.type}")
            continue
        fields.append(pa.field(field.name, wanted))
    if problems:
        raise ContractError(who, problems, there=table.column_names, remedy=remedy)
    return pa.table(columns, schema=pa.schema(fields))


def _wanted(wanted: pa.DataType, found: pa.DataType) -> pa.DataType:
    if pa.types.is_list(wanted) and pa.types.is_fixed_size_list(found):
        return pa.list_(pa.field("item", wanted.value_type), found.list_size)
    return wanted
