"""The random projection that makes a short vector of a sample's logits.

    C2[a, v] = sqrt(V / r_vocab) * sign_vocab[v] * cos(2 pi * index_vocab[a] * v / V)
    C1[b, t] = sqrt(T / r_time) * sign_time[t] * cos(2 pi * index_time[b] * t / T)
    z = vec(C1 L C2^T), time-major: r_time * r_vocab numbers

with L (positions, V) the logits and T the maximum length; shorter samples end in rows of zeros.

Source: Zou et al. 2025, https://arxiv.org/abs/2510.16882.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from stages.uds.arrays import Array, Namespace, to_numpy

_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True, eq=False)
class LogitSketch:
    """Signs and indices of one run, drawn once and kept.

    sign_time    (T,) of -1 and 1, stored as int8; T is the maximum length
    index_time   (r_time,) int64 in [0, T)
    sign_vocab   (V,) of -1 and 1
    index_vocab  (r_vocab,) int64 in [0, V)

    Takes arrays of any library. Raises ValueError for values out of range, all at once.
    """

    sign_time: np.ndarray[Any, Any]
    index_time: np.ndarray[Any, Any]
    sign_vocab: np.ndarray[Any, Any]
    index_vocab: np.ndarray[Any, Any]

    def __post_init__(self) -> None:
        given = {field.name: to_numpy(getattr(self, field.name)) for field in fields(self)}
        wrong = [
            f"{name} has shape {values.shape}, expected one dimension and at least one value"
            for name, values in given.items()
            if values.ndim != 1 or not values.size
        ]
        for axis in () if wrong else ("time", "vocab"):
            signs, index = given[f"sign_{axis}"], given[f"index_{axis}"]
            if not (np.abs(signs) == 1).all():
                wrong.append(f"sign_{axis} holds other values than -1 and 1")
            if not np.issubdtype(index.dtype, np.integer):
                wrong.append(f"index_{axis} is {index.dtype}, expected integers")
            elif index.min() < 0 or index.max() >= len(signs):
                wrong.append(
                    f"index_{axis} is in [{index.min()}, {index.max()}], "
                    f"expected [0, {len(signs) - 1}] as sign_{axis} has {len(signs)} values"
                )
        if wrong:
            raise ValueError("this sketch cannot be used:\n" + _listed(wrong))
        for name, values in given.items():
            kind = np.int8 if name.startswith("sign") else np.int64
            object.__setattr__(self, name, values.astype(kind))

    @classmethod
    def draw(
        cls, seed: int, max_length: int, vocab: int, r_time: int = 8, r_vocab: int = 128
    ) -> Self:
        """Draw one; indices with replacement. The defaults are the paper's."""
        random = np.random.default_rng(seed)
        signs = np.array([-1, 1], dtype=np.int8)
        return cls(
            sign_time=random.choice(signs, max_length),
            index_time=random.integers(max_length, size=r_time),
            sign_vocab=random.choice(signs, vocab),
            index_vocab=random.integers(vocab, size=r_vocab),
        )

    @property
    def max_length(self) -> int:
        return len(self.sign_time)

    @property
    def vocab(self) -> int:
        return len(self.sign_vocab)

    @property
    def width(self) -> int:
        """Numbers in one sketch."""
        return len(self.index_time) * len(self.index_vocab)

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Its four arrays, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def equals(self, others: Mapping[str, Array]) -> bool:
        """Whether these are its four arrays."""
        return all(
            np.array_equal(mine, to_numpy(others[name])) for name, mine in self.arrays().items()
        )

    def time_matrix(self, xp: Namespace, device: Any) -> Array:
        """C1, float64 (r_time, T)."""
        return next(_cosine_blocks(xp, device, self.sign_time, self.index_time, self.max_length))[1]

    def vocab_blocks(self, xp: Namespace, device: Any, width: int) -> Iterator[tuple[slice, Array]]:
        """C2 in blocks of columns: which part of the vocabulary, and float64 (r_vocab, part).

        A part is as long as keeps float64 (part, width) within 32 MiB.
        """
        rows = max(256, _BLOCK_BYTES // (8 * width))
        return _cosine_blocks(xp, device, self.sign_vocab, self.index_vocab, rows)


def _cosine_blocks(
    xp: Namespace,
    device: Any,
    signs: np.ndarray[Any, Any],
    index: np.ndarray[Any, Any],
    block: int,
) -> Iterator[tuple[slice, Array]]:
    size = len(signs)
    # index * v is reduced modulo the size as an integer, so that no large angle is rounded.
    turns = np.cos(2 * math.pi * np.arange(size) / size) * math.sqrt(size / len(index))
    table = xp.asarray(turns, device=device)
    flips = xp.asarray(signs.astype(np.float64), device=device)
    at = xp.asarray(index, device=device)
    for start in range(0, size, block):
        part = slice(start, min(start + block, size))
        places = xp.arange(part.start, part.stop, dtype=xp.int64, device=device)
        where = (at[:, None] * places[None, :]) % size
        cosines = xp.reshape(xp.take(table, xp.reshape(where, (-1,)), axis=0), where.shape)
        yield part, cosines * flips[part]


def _listed(problems: list[str]) -> str:
    return "\n".join(f"  - {problem}" for problem in problems)
