"""Names for rows: what a row is called, and what it says.

All hashes are blake2b with 16 bytes, over compact JSON in UTF-8. JSON keeps the fields apart (no
two different rows have one text) and is the same on every machine.
"""

import hashlib
from collections.abc import Iterable, Sequence

import orjson

from schemas.rows import RowType

MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")


def digest(*values: object) -> bytes:
    """16 bytes that stand for these JSON-able values, in this order."""
    return hashlib.blake2b(orjson.dumps(values), digest_size=16).digest()


def content_of(row_type: RowType, values: Sequence[object]) -> bytes:
    """The content key of one row: 16 bytes.

    `values` holds the columns of `schemas.rows.CONTENT[row_type]`, in that order. Messages are
    lists of dicts whose keys stand in the order of `MESSAGE_FIELDS`, absent fields as None. The
    audio column is represented by the hex of its sha256, since a path is no content.
    """
    return hashlib.blake2b(orjson.dumps([row_type, *values]), digest_size=16).digest()


def contents_of(row_type: RowType, rows: Iterable[Sequence[object]]) -> bytes:
    """`content_of` of each row, one after another: the same bytes, a third faster for millions."""
    dumps, blake2b = orjson.dumps, hashlib.blake2b
    return b"".join(
        [blake2b(dumps([row_type, *values]), digest_size=16).digest() for values in rows]
    )


def row_id(content: bytes, occurrence: int) -> str:
    """The id of an imported row that names none: the hex of its content.

    The first repeat of the same content has occurrence 1 and the suffix `-1`, the next `-2`.
    """
    return content.hex() if occurrence == 0 else f"{content.hex()}-{occurrence}"


def failed_row_id(file: str, line: int, raw: bytes) -> str:
    """The id of a row that could not be read. `line` counts from 1."""
    head = orjson.dumps([file, line])
    return "failed-" + hashlib.blake2b(head + b"\0" + raw, digest_size=16).hexdigest()


def created_row_id(stage: str, parents: Sequence[str], sample: int) -> str:
    """The id of a row that a stage made: from who made it, from what, and which one it is."""
    return digest(stage, list(parents), sample).hex()
