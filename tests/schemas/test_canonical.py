"""Whatever spelling of a table comes in, one comes out."""

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from schemas.canonical import canonical
from schemas.errors import ContractError
from schemas.rows import row_schema

SCHEMA = row_schema("instruction")


def table() -> pa.Table:
    message = {"role": "user", "content": "héllo 😀", "name": None}
    row = {
        "id": "a",
        "place": 0,
        "content": b"0" * 16,
        "messages": [message | {"tool_calls": None, "tool_call_id": None}],
        "tools": None,
        "label": True,
        "source": "f",
        "parents": [],
        "meta": "{}",
    }
    return pa.Table.from_pylist([row], schema=SCHEMA)


def through_polars() -> pa.Table:
    return pl.DataFrame(table()).to_arrow()


def through_duckdb() -> pa.Table:
    with duckdb.connect() as database:
        database.register("t", table())
        return database.sql("SELECT * FROM t").to_arrow_table()


def through_datasets() -> pa.Table:
    return table().replace_schema_metadata({"huggingface": "{}"})


@pytest.mark.parametrize("spelling", [table, through_polars, through_duckdb, through_datasets])
def test_every_spelling_becomes_the_same_table(spelling: object) -> None:
    found = canonical(spelling(), SCHEMA, who="a test")  # type: ignore[operator]
    assert found.schema.equals(SCHEMA, check_metadata=True)
    assert found.to_pylist() == table().to_pylist()


def test_columns_are_put_in_order_and_further_ones_left_out() -> None:
    shuffled = table().select(list(reversed(SCHEMA.names))).append_column("extra", pa.array([1]))
    assert canonical(shuffled, SCHEMA, who="a test").column_names == SCHEMA.names


def test_a_list_may_come_with_a_fixed_size_and_keeps_it() -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.float32()), 2)
    schema = pa.schema([("v", pa.list_(pa.float16()))])
    found = canonical(pa.table({"v": vectors}), schema, who="a test")
    assert found.schema.field("v").type == pa.list_(pa.field("item", pa.float16()), 2)


def test_one_error_names_everything_that_is_wrong() -> None:
    wrong = pa.table({"id": ["a"], "place": ["first"], "reply": ["x"]})
    schema = pa.schema([("id", pa.string()), ("place", pa.int64()), ("content", pa.binary(16))])
    with pytest.raises(ContractError) as caught:
        canonical(wrong, schema, who="clear.filter", remedy="Map them in the recipe.")
    assert str(caught.value) == (
        "clear.filter cannot use this table:\n"
        "  - column 'place' is string, expected int64\n"
        "  - column 'content' is missing\n"
        "The table has: id, place, reply.\n"
        "Map them in the recipe."
    )
