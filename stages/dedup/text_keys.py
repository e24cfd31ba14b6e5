"""Keys of texts: 16 bytes of blake2b that are equal where the normalised texts are.

The heavy part is vectorised over the bytes of all texts at once; what is left for a Python loop is
one blake2b a row, which has no vectorised form (0.85 s per 1,000,000 rows of 220 bytes).
"""

import hashlib
import unicodedata
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.rows import KEY
from stages.conversation import Turns

Normalize = Literal["none", "nfc-lower"]

# What str.split() splits at, within ASCII; and upper case to lower.
_SPACES: Final = bytes([*range(9, 14), *range(28, 33)])
_TABLE: Final = bytes(
    32 if byte in _SPACES else byte + 32 if 65 <= byte <= 90 else byte for byte in range(256)
)
_EXTRAS: Final = ("name", "tool_calls", "tool_call_id")


def document_keys(texts: pa.Array, normalize: Normalize) -> pa.FixedSizeBinaryArray:
    """binary(16) for each text; a null text counts as an empty one."""
    offsets, data = _bytes_of(texts, normalize)
    return _hashed([b""] * len(texts), offsets, data)


def conversation_keys(messages: pa.Array, normalize: Normalize) -> pa.FixedSizeBinaryArray:
    """binary(16) for each row of `messages`: roles and all fields count, contents normalised."""
    turns = Turns.of(messages)
    offsets, data = _bytes_of(turns.field("content"), normalize)
    lengths = pc.if_else(pc.is_null(turns.field("content")), None, pa.array(np.diff(offsets)))
    return _hashed(_headers(turns, lengths), offsets[turns.offsets], data)


def combined_keys(keys: list[pa.FixedSizeBinaryArray]) -> pa.FixedSizeBinaryArray:
    """One key for each row from several, in this order."""
    parts = zip(*(column.to_pylist() for column in keys), strict=True)
    return pa.array([hashlib.blake2b(b"".join(row), digest_size=16).digest() for row in parts], KEY)


def normalized(texts: pa.Array) -> pa.Array:
    """NFC, lower case, runs of whitespace as one space, none at the ends. Null becomes ''.

    Per text exactly `" ".join(unicodedata.normalize("NFC", text).lower().split())`, which is also
    how texts outside of ASCII are done; those within it go through a byte table together.
    """
    texts = _large(texts)
    plain = pc.string_is_ascii(texts)
    if pc.all(plain).as_py() is not False:  # None where there are no texts
        return _normalized_ascii(texts)
    others = [
        " ".join(unicodedata.normalize("NFC", text).lower().split())
        for text in texts.filter(pc.invert(plain)).to_pylist()
    ]
    done = pl.concat([pl.Series(_normalized_ascii(texts.filter(plain))), pl.Series(others)])
    # Where each text now stands: plain ones first.
    order = np.argsort(np.argsort(~np.asarray(plain), kind="stable"), kind="stable")
    return _large(done.gather(order).to_arrow())


def _normalized_ascii(texts: pa.Array) -> pa.Array:
    """`normalized` for texts of ASCII alone, at 250 MB/s."""
    offsets, raw = _buffers(texts)
    data = np.frombuffer(raw.translate(_TABLE), np.uint8)
    space = data == 32
    # A space goes when another follows or its text ends: what stays is the last of each run.
    drop = np.zeros(len(data), bool)
    np.logical_and(space[:-1], space[1:], out=drop[:-1])
    filled = offsets[1:] > offsets[:-1]
    ends = offsets[1:][filled] - 1
    drop[ends] = space[ends]
    _drop_leading(drop, space, offsets)
    gone = np.flatnonzero(drop)
    if len(gone):
        data = data[~drop]
        offsets = offsets - np.searchsorted(gone, offsets)
    return pa.Array.from_buffers(
        pa.large_string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def _drop_leading(
    drop: npt.NDArray[np.bool_], space: npt.NDArray[np.bool_], offsets: npt.NDArray[np.int64]
) -> None:
    """Drop the one space that is left of a run at the start of a text."""
    filled = offsets[1:] > offsets[:-1]
    starts, ends = offsets[:-1][filled], offsets[1:][filled]
    led = space[starts]
    if not led.any():
        return
    left = np.append(np.flatnonzero(space & ~drop), len(drop))
    first = left[np.searchsorted(left, starts[led])]
    drop[first[first < ends[led]]] = True


def _bytes_of(texts: pa.Array, normalize: Normalize) -> tuple[npt.NDArray[np.int64], bytes]:
    """All texts, normalised, end to end, and where each begins."""
    if normalize == "nfc-lower":
        return _buffers(normalized(texts))
    return _buffers(_large(texts))


def _large(texts: pa.Array) -> pa.Array:
    """The texts with 64-bit offsets, '' for null."""
    return pc.cast(pc.fill_null(texts, ""), pa.large_string())


def _buffers(texts: pa.Array) -> tuple[npt.NDArray[np.int64], bytes]:
    """Offsets from 0, int64 (texts + 1,), and the bytes of a large_string array."""
    if not len(texts):
        return np.zeros(1, np.int64), b""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    values = texts.buffers()[2]
    data = (
        b"" if values is None else values.slice(offsets[0], offsets[-1] - offsets[0]).to_pybytes()
    )
    return offsets - offsets[0], data


def _headers(turns: Turns, lengths: pa.Array) -> list[bytes]:
    """For each row, what tells its turns apart: role, length of the content, and rarer fields.

    Every part is led by its length or ends in a sign that no number has, so no two different
    conversations have the same header and contents.
    """
    parts = [
        *_counted(turns.field("role"), "r"),
        pc.fill_null(pc.cast(lengths, pa.string()), "-"),
        pa.scalar(";"),
    ]
    for name in _EXTRAS:
        field = turns.field(name)
        if field.null_count < len(field):  # an absent field adds nothing, whatever the others do
            parts.extend(pc.fill_null(part, "") for part in _counted(field, f"{name}="))
    joined = pc.binary_join_element_wise(*parts, "")
    lists = pa.ListArray.from_arrays(pa.array(turns.offsets, pa.int32()), joined)
    headers: list[bytes] = pc.binary_join(lists, "").cast(pa.binary()).to_pylist()
    return headers


def _counted(field: pa.Array, sign: str) -> tuple[pa.Array, pa.Array]:
    """Text arrays "<sign><length>:" and the text itself; both null where the text is."""
    counted = pc.cast(pc.binary_length(field), pa.string())
    return pc.binary_join_element_wise(sign, counted, ":", ""), field


def _hashed(
    headers: list[bytes], offsets: npt.NDArray[np.int64], data: bytes
) -> pa.FixedSizeBinaryArray:
    ends = offsets.tolist()
    rows = zip(headers, ends, ends[1:], strict=False)
    digests = [
        # Inline: the call of a function of ours would cost as much as the hash.
        hashlib.blake2b(header + data[start:end], digest_size=16).digest()
        for header, start, end in rows
    ]
    return pa.array(digests, KEY)
