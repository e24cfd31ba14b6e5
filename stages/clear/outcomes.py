"""Results of which some are missing: a value, or the text that says why there is none."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

T = TypeVar("T")
U = TypeVar("U")

Record = Mapping[str, Any]  # the score columns of one row by name
Scored = Sequence[Record | str]  # for each row its scores, or why it has none


def for_sound(
    outcomes: Sequence[T | str], compute: Callable[[list[T]], Sequence[U | str]]
) -> list[U | str]:
    """`compute` applied to the outcomes that are values, together; a reason stays what it is.

    `compute` gives one outcome for each value, in order.
    """
    values = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    computed = iter(compute(values) if values else ())
    return [outcome if isinstance(outcome, str) else next(computed) for outcome in outcomes]


def score_table(schema: pa.Schema, results: Scored) -> pa.Table:
    """The score columns and `error`; a row with an error has nulls in the others."""
    columns = {
        name: [None if isinstance(result, str) else result[name] for result in results]
        for name in schema.names
    }
    errors = [result if isinstance(result, str) else None for result in results]
    return pa.table(columns, schema=schema).append_column("error", pa.array(errors, pa.string()))
