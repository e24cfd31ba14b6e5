"""Taking typed values out of one record.

`take` removes what it returns, so that in the end the record holds what nobody asked for: its meta.
A column name leads to that column, or with dots into nested objects where no column has the whole
name.
"""

import json
from numbers import Real
from typing import Any, Final

from pipelines.readers.records import decoder, inexact, named

Fields = dict[str, Any]


class RecordError(Exception):
    """The record gives no row. `reason` is a short code, the message says it in words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InexactError(Exception):
    """A number that matters may have lost digits on the way: parse the record exactly."""


class _Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing()


def peek(record: Fields, column: str) -> Any:
    """The value in that column, or MISSING."""
    if column in record:
        return record[column]
    head, _, rest = column.partition(".")
    inner = record.get(head) if rest else None
    return peek(inner, rest) if isinstance(inner, dict) else MISSING


def take(record: Fields, column: str) -> Any:
    """Like `peek`, and removes it. Nested objects are copied, so nobody else's change."""
    if column in record or "." not in column:
        return record.pop(column, MISSING)
    head, _, rest = column.partition(".")
    inner = record.get(head)
    if not isinstance(inner, dict):
        return MISSING
    inner = dict(inner)
    value = take(inner, rest)
    if value is not MISSING:
        record[head] = inner
        if not inner:
            del record[head]
    return value


def required(record: Fields, column: str) -> Any:
    value = take(record, column)
    if value is MISSING:
        raise RecordError("missing_field", f"'{column}' is missing")
    if value is None:
        raise RecordError("null_field", f"'{column}' is null")
    return value


def optional(record: Fields, column: str | None) -> Any:
    """The value, None where it is null, missing or not asked for."""
    value = None if column is None else take(record, column)
    return None if value is MISSING else value


def text(record: Fields, column: str) -> str:
    value = required(record, column)
    if type(value) is not str:
        raise wrong_type(column, value, "a text")
    return value


def optional_text(record: Fields, column: str | None) -> str:
    """The text, "" where there is none."""
    value = optional(record, column)
    if value is None:
        return ""
    if type(value) is not str:
        raise wrong_type(column, value, "a text")
    return value


def optional_number(record: Fields, column: str | None) -> float | None:
    """The number, also where it is written as text (csv)."""
    value = optional(record, column)
    if value is None or value == "":
        return None
    if type(value) is not str and (isinstance(value, bool | str) or not isinstance(value, Real)):
        raise wrong_type(column, value, "a number")
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise wrong_type(column, value, "a number") from error
    return number


def optional_flag(record: Fields, column: str | None) -> bool | None:
    """The boolean, also where it is written as text (csv)."""
    value = optional(record, column)
    if value is None or isinstance(value, bool):
        return value
    flag = flag_of(value)
    if flag is None:
        raise wrong_type(column, value, "a boolean")
    return flag


def flag_of(value: Any) -> bool | None:
    """What a boolean, or the text of one, says; None for anything else."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.lower()) if type(value) is str else None


def wrong_type(column: str | None, value: Any, wanted: str) -> RecordError:
    return RecordError("wrong_type", f"'{column}' is {named(value)}, expected {wanted}")


def json_list(value: Any, column: str) -> str | None:
    """JSON text of a list that comes as a list or as its text; None where there is none."""
    if value is None or (type(value) is str and not value.strip()):
        return None
    if type(value) is str:
        value = parsed(value, column)
    if type(value) is not list:
        raise wrong_type(column, value, "a list")
    return json_text(value, column)


def parsed(value: str, column: str) -> Any:
    """The value that a JSON text within a record stands for."""
    try:
        return decoder.decode(value)
    except (ValueError, RecursionError) as error:
        raise RecordError("broken_json", f"the text in '{column}' is no JSON: {error}") from error


def json_text(value: Any, column: str) -> str:
    """JSON text in the common spelling (that of Python's `json.dumps`), one for each value.

    Its spaces are those that tool data mostly has, so that most texts come out as they came in.
    """
    if inexact(value):
        raise InexactError
    written = json.dumps(value, ensure_ascii=False)
    try:
        written.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RecordError("lone_surrogate", f"half a character in '{column}'") from error
    return written
