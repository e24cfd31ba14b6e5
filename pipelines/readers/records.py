"""What every reader yields: records, sound as JSON or broken, with where they stood.

A reader yields lists of records. A record is a plain tuple (a class costs 0.2 s per million):

    line   from 1: the physical line of a jsonl file, else the number of the record in its file
    raw    its bytes as they stood in the file; empty where there are none (parquet)
    value  a dict of JSON values, or `Broken`

Values of a record are str, bool, int of any size, finite float, None, list and dict, all of which
JSON text can hold exactly. Whatever JSON cannot hold (NaN, bytes, dates) is an `AsText`. A plain
float of 2**63 and more is suspect: see `inexact`. Of keys that stand twice in an object the last
one counts, as with every common JSON reader.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson


class AsText(str):
    """A value that JSON cannot hold, written as text. No converter takes it for a text."""

    __slots__ = ()


class LargeFloat(float):
    """A float of 2**63 or more that was written as one."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that gives no row: a short code, and what is wrong in words."""

    reason: str
    error: str


Record = tuple[int, bytes, Any]
Records = Iterator[list[Record]]

# Integers beyond this come out of orjson as floats, without a word.
_EXACT: Final = 2.0**63


def finite(value: float, text: str) -> float | AsText:
    """The float that stands for `value`, which was written as `text`."""
    if abs(value) < _EXACT:
        return float(value)
    return LargeFloat(value) if math.isfinite(value) else AsText(text)


def _float(text: str) -> float | AsText:
    return finite(float(text), text)


decoder: Final = json.JSONDecoder(parse_constant=AsText, parse_float=_float)


def parse_all(lines: list[bytes]) -> list[Any]:
    """The record in each line of JSON: a dict, or `Broken`."""
    try:
        values = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return list(map(parse, lines))
    if all(type(value) is dict for value in values):
        return values
    return list(map(parse, lines))


def parse(line: bytes) -> Any:
    """The record in one line of JSON: a dict, or `Broken`."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = parse_exactly(line)
    if type(value) is dict or isinstance(value, Broken):
        return value
    return Broken("not_an_object", f"the record is {named(value)}, not an object")


def parse_exactly(line: bytes) -> Any:
    """Like `parse` with the standard library: slower, but big integers and NaN stay what they are.

    Gives any JSON value, or `Broken`.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return Broken("undecodable", f"no UTF-8: {error.reason} at byte {error.start}")
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        return Broken("broken_json", f"{error.msg} at character {error.pos}")
    except RecursionError:
        return Broken("broken_json", "nested too deeply")
    except ValueError as error:  # an integer of more than 4,300 digits
        return Broken("broken_json", str(error))
    return checked(value, text)


def checked(value: Any, text: str) -> Any:
    """`value`, or `Broken` where its text holds half a character (a lone surrogate)."""
    if "\\u" not in text:
        return value
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        found = error.object[error.start]
        return Broken("lone_surrogate", f"half a character, \\u{ord(found):04x}, in a text")
    return value


def inexact(value: Any) -> bool:
    """Whether `value`, as orjson parsed it, may hold an integer that became a float."""
    if type(value) is float:
        return abs(value) >= _EXACT
    if type(value) is dict:
        return any(inexact(item) for item in value.values())
    if type(value) is list:
        return any(inexact(item) for item in value)
    return False


def compact(value: Any) -> str:
    """JSON text without spaces, integers of any size included."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_unknown)


def _unknown(value: object) -> NoReturn:
    raise AssertionError(f"a reader let {type(value).__name__} through")


def named(value: object) -> str:
    """What a value is, in JSON's words, for error messages."""
    if isinstance(value, AsText):
        return f"no JSON value ({value[:40]})"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, int | float):
        return f"a number ({value})"[:60]
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"
