"""JSON values back into Arrow columns of the type that the source had."""

import base64
import datetime as dt
import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

# What a value that is not of the type raises on the way; ArrowInvalid is a ValueError,
# decimal.InvalidOperation an ArithmeticError as OverflowError is.
MISFITS: Final = (ValueError, TypeError, ArithmeticError, AttributeError, pa.ArrowException)

_NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity")
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def plain_type(arrow: pa.DataType) -> pa.DataType | None:
    """`arrow` as columns of exports have it; None for a type that JSON values cannot be cast to.

    Dictionaries become their values and views the plain type; everything else stays as it is.
    """
    if pa.types.is_dictionary(arrow):
        return plain_type(arrow.value_type)
    if pa.types.is_string_view(arrow) or pa.types.is_binary_view(arrow):
        return pa.string() if pa.types.is_string_view(arrow) else pa.binary()
    if isinstance(arrow, pa.BaseExtensionType) or pa.types.is_union(arrow):
        return None
    if pa.types.is_struct(arrow):
        types = [plain_type(field.type) for field in arrow]
        if not types or None in types:
            return None
        return pa.struct([f.with_type(t) for f, t in zip(arrow, types, strict=True)])
    if _is_list(arrow):
        value = plain_type(arrow.value_type)
        return None if value is None else pa.list_(pa.field("item", value))
    if pa.types.is_map(arrow):
        key, value = plain_type(arrow.key_type), plain_type(arrow.item_type)
        return None if key is None or value is None else pa.map_(key, value)
    return arrow if pa.types.is_primitive(arrow) or arrow in _LEAVES or _is_leaf(arrow) else None


def to_array(values: Sequence[Any], arrow: pa.DataType) -> pa.Array:
    """The column of these JSON values, (values,), of a type that `plain_type` gave.

    Bytes come from base64, dates and times from ISO 8601, durations from whole microseconds,
    decimals, NaN and infinities from text, maps from lists of pairs.

    Raises one of MISFITS for a value that is not of the type.
    """
    if pa.types.is_struct(arrow):
        fields = [
            to_array([None if v is None else v.get(field.name) for v in values], field.type)
            for field in arrow
        ]
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(fields, fields=list(arrow), mask=missing)
    if pa.types.is_map(arrow):
        pairs = [pair for value in values for pair in value or ()]
        keys = to_array([key for key, _ in pairs], arrow.key_type)
        items = to_array([item for _, item in pairs], arrow.item_type)
        missing = pa.array([value is None for value in values], pa.bool_())
        offsets = pa.array(_offsets(values), pa.int32())
        return pa.MapArray.from_arrays(offsets, keys, items, mask=missing)
    if pa.types.is_list(arrow):
        flat = to_array([item for value in values for item in value or ()], arrow.value_type)
        missing = pa.array([value is None for value in values], pa.bool_())
        offsets = pa.array(_offsets(values), pa.int32())
        return pa.ListArray.from_arrays(offsets, flat, type=arrow, mask=missing)
    convert = _conversion(arrow)
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        return pc.cast(pa.array(values, pa.string()), arrow)
    if pa.types.is_duration(arrow):  # the cast refuses what a coarser unit would cut off
        return pc.cast(pa.array(values, pa.duration("us")), arrow)
    return pa.array(values, arrow)


def _offsets(values: Sequence[Sequence[Any] | None]) -> list[int]:
    offsets = [0]
    for value in values:
        if isinstance(value, str | dict):
            raise TypeError(f"{value!r} is no list")
        offsets.append(offsets[-1] + len(value or ()))
    return offsets


def _conversion(arrow: pa.DataType) -> Callable[[Any], Any] | None:
    """From the JSON value to what pyarrow takes for the type; None where that is the same."""
    if pa.types.is_integer(arrow):
        return operator.index  # pyarrow would cut 1.5 down to 1
    if pa.types.is_floating(arrow):
        return _float
    if pa.types.is_decimal(arrow):
        return Decimal
    if pa.types.is_time(arrow):
        return dt.time.fromisoformat
    if pa.types.is_duration(arrow):
        return lambda value: int(value) * _MICROSECOND
    if _is_bytes(arrow):
        return lambda value: base64.b64decode(value, validate=True)
    return None


def _float(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and value not in _NOT_FINITE):
        raise TypeError(f"{value!r} is no number")
    number = float(value)
    if isinstance(value, int) and int(number) != value:
        raise ValueError(f"float64 cannot hold {value}")
    return number


def _is_list(arrow: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(arrow) for is_kind in kinds)


def _is_bytes(arrow: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_kind(arrow) for is_kind in kinds)


def _is_leaf(arrow: pa.DataType) -> bool:
    return _is_bytes(arrow) or pa.types.is_decimal(arrow)


_LEAVES: Final = (pa.string(), pa.large_string(), pa.null(), pa.bool_())
