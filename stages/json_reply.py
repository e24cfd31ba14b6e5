"""Reading one JSON object out of a model's reply. What cannot be read is a reason, never a guess.

Where the object may stand, tried in this order:

    the whole reply
    the one fenced block that is an object, whatever stands around it
    the one object in the text, from a brace before a quotation mark to its partner

Text before and after it is allowed, and what a model thinks (before `</think>`) is not read. Two
objects that differ are no answer, since nobody can say which one is meant; nor is an object inside
a broken one. Beyond the grammar of JSON one thing is taken, since models write it and it can only
mean one thing: line breaks inside a string. Not taken, though Python's reader takes them: a key
that stands twice, NaN and Infinity, numbers that a float cannot hold, halves of characters, more
than 100 levels.
"""

import json
import math
import re
from collections import Counter
from typing import Any, Final, NoReturn

LEVELS: Final = 100  # of nesting; whether more can be read depends on the stack of the moment
_SHOWN: Final = 40  # characters of a reply that a reason quotes

# Behind its line only: inside a string of the object it is a text like any other.
_THOUGHT: Final = re.compile(r"</think>[ \t]*(?:\n|\Z)")
_FENCE: Final = re.compile(r"^[ \t]*(?:```|~~~).*$", re.MULTILINE)
# `{x}` in prose is no JSON; a brace before a quotation mark is meant to be.
_OBJECT: Final = re.compile(r'\{\s*"')


class Unreadable(Exception):
    """There is no JSON object to be read. The message says why, in words a model understands."""


def json_object(reply: str) -> dict[str, Any]:
    """The one JSON object in `reply`. Raises Unreadable. Time is linear in the reply's length."""
    try:
        return _whole(reply)
    except Unreadable:
        # A reply that is JSON and wrong in itself fails below for the same reason.
        after = _behind_thoughts(reply)
    fenced = _fenced(after)
    return fenced if fenced is not None else _embedded(after)


def _behind_thoughts(reply: str) -> str:
    if reply.lstrip().startswith("<think>"):
        return reply.rpartition("</think>")[2]
    return _THOUGHT.split(reply)[-1]


def _whole(text: str) -> dict[str, Any]:
    text = text.strip()
    found, end = _decoded(text, 0)
    if text[end:]:
        raise Unreadable("text follows the JSON object")
    return found


def _fenced(reply: str) -> dict[str, Any] | None:
    """The object that fenced blocks hold, all of them the same; None where there is no such."""
    fences = list(_FENCE.finditer(reply))
    found: list[dict[str, Any]] = []
    for opening, closing in zip(fences[::2], fences[1::2], strict=False):  # the last may be open
        try:
            found.append(_whole(reply[opening.end() : closing.start()]))
        except Unreadable:
            continue  # a block of something else
    return found[0] if found and all(other == found[0] for other in found) else None


def _embedded(reply: str) -> dict[str, Any]:
    first: dict[str, Any] | None = None
    start = _OBJECT.search(reply)
    while start is not None:
        found, end = _decoded(reply, start.start())
        if first is not None and found != first:
            raise Unreadable("there are several JSON objects, and they differ")
        first = found
        start = _OBJECT.search(reply, end)
    if first is None:
        raise Unreadable("there is no JSON object" if reply.strip() else "it is empty")
    return first


def _decoded(text: str, start: int) -> tuple[dict[str, Any], int]:
    """The object that begins at `start`, and where it ends."""
    if not text.startswith("{", start):
        raise Unreadable("it is no JSON object")
    try:
        found, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Unreadable(_place(text, error)) from error
    except RecursionError as error:
        raise Unreadable(f"it is nested deeper than {LEVELS} levels") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise Unreadable("it holds a number that is too long") from error
    _check_levels(found)
    _check_characters(found)
    return found, end


def _place(text: str, error: json.JSONDecodeError) -> str:
    """`it is no valid JSON: Expecting ',' delimiter, at: <what stands there>`."""
    if not text[error.pos :].strip() or error.msg.startswith("Unterminated string"):
        return "the JSON object is not complete"
    there = text[error.pos : error.pos + _SHOWN]
    return f"it is no valid JSON: {error.msg}, at: {' '.join(there.split())}"


def _check_levels(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(LEVELS):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise Unreadable(f"it is nested deeper than {LEVELS} levels")


def _check_characters(value: dict[str, Any]) -> None:
    # JSON can escape one half of a character of UTF-16; neither Arrow nor a file in UTF-8 holds it.
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Unreadable("it holds half of a character, such as \\ud800") from error


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise Unreadable(f"the key {twice[:_SHOWN]!r} stands there more than once")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Unreadable(f"{text[:_SHOWN]} is too large a number")
    return number


def _no_constant(text: str) -> NoReturn:
    raise Unreadable(f"{text} is no JSON")


_DECODER: Final = json.JSONDecoder(
    strict=False,  # line breaks inside strings
    object_pairs_hook=_each_key_once,
    parse_float=_finite,
    parse_constant=_no_constant,
)
