"""Batches of requests of similar length.

Shape legend: B rows of a batch, T padded length.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from stages.engines import Refused

Tokens = npt.NDArray[np.int32]  # (tokens,)
T = TypeVar("T")
R = TypeVar("R")


def pack(
    lengths: Sequence[int], batch_tokens: int, batch_rows: int | None = None
) -> list[list[int]]:
    """Indices of the requests in batches: longest first, so that too little memory shows at once.

    Padded tokens of a batch (rows times its longest) stay within `batch_tokens`, unless a single
    request is longer. Equal lengths stay in order, so the same requests give the same batches.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        rows = len(batches[-1]) + 1 if batches else 0
        if not batches or rows * longest > batch_tokens or (batch_rows and rows > batch_rows):
            batches.append([])
            longest = lengths[index]
        batches[-1].append(index)
    return batches


def answered(
    requests: Sequence[T | Refused],
    length: Callable[[T], int],
    answer: Callable[[Sequence[T]], Sequence[R]],
    batch_tokens: int,
    batch_rows: int | None = None,
) -> list[R | Refused]:
    """What `answer` makes of each request, batch by batch as `pack` has them, in their own order.

    Requests that were refused already stay where they are.
    """
    open_ones = [(i, item) for i, item in enumerate(requests) if not isinstance(item, Refused)]
    answers: dict[int, R] = {}
    for batch in pack([length(item) for _, item in open_ones], batch_tokens, batch_rows):
        found = answer([open_ones[place][1] for place in batch])
        for place, one in zip(batch, found, strict=True):
            answers[open_ones[place][0]] = one
    return [
        request if isinstance(request, Refused) else answers[i]
        for i, request in enumerate(requests)
    ]


def padded_right(rows: Sequence[Tokens], fill: int) -> npt.NDArray[np.int64]:
    """(B, T) tokens, each row followed by `fill`."""
    out = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def padded_left(
    rows: Sequence[Tokens], fill: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(B, T) tokens, each row preceded by `fill`, and their mask: 1 where a token stands."""
    width = max(map(len, rows))
    out = np.full((len(rows), width), fill, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for place, seen, row in zip(out, mask, rows, strict=True):
        place[width - len(row) :] = row
        seen[width - len(row) :] = 1
    return out, mask
