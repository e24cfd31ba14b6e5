"""Near-duplicates through FAISS: the index proposes, float64 decides.

Rows come in blocks. Rows kept so far stand in flat inner-product indexes of bounded size, each
asked for everything a little below the threshold; what it proposes is computed again in float64
and compared exactly. A row that has found its kept row leaves before the next index is asked, and
rows of the same block are compared with one another at the end. So however many rows are alike,
memory holds the vectors, one block and the proposals of one block in one index: 32 million at
most.

On a GPU the same indexes stand twice, there and here. FAISS has no search by radius on GPUs, only
the k nearest (2,048 at most), so a row for which all k are near enough is asked again on the CPU;
and an index that finds no room on the GPU is searched on the CPU. Neither changes a result.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from pipelines.engines.neighbours import (
    Doubles,
    Floats,
    Progress,
    checked,
    cosines,
    in_float64,
    no_progress,
    squared_norms,
)
from stages.engines import EngineError, FirstKept

T = TypeVar("T")

_PAIRS = 16_384  # pairs recomputed at a time: 100 MB at 384 dimensions
# A GPU index gives the nearest rows only, not all within a radius. A row with this many proposals
# may have more, and is asked again on the CPU.
_NEAREST = 64
# A GPU may multiply in TF32, with 10 bits of mantissa.
_TF32_MARGIN = 2e-3
# FAISS would take 1.5 GiB of a GPU for scratch, and 256 MiB of locked memory here. The products of
# a block with an index are 128 MiB.
_SCRATCH = 256 * 2**20
_LOCKED = 16 * 2**20
# Where less is free (beside vLLM, say) the index stays on the CPU: the CUDA context and cuBLAS take
# about 0.5 GiB besides, and FAISS ends the process without an exception when cuBLAS has no room.
_FREE = 2 * 2**30

GpuIndex = Callable[[int], Any]


def gpu_index() -> GpuIndex | None:
    """What makes an empty inner-product index of a dimension on the first GPU.

    None where faiss knows no GPUs, sees none, or finds less than 2 GiB free on the first.
    """
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    free = _free_memory()
    if free is not None and free < _FREE:
        return None
    resources = faiss.StandardGpuResources()
    # Before an index is made: both are taken then.
    resources.setTempMemory(_SCRATCH)
    resources.setPinnedMemory(_LOCKED)
    return lambda dim: faiss.GpuIndexFlatIP(resources, dim)


def _free_memory() -> int | None:
    """Bytes free on the first GPU; None where torch, unlike faiss, sees no GPU."""
    import torch  # faiss does not tell

    return int(torch.cuda.mem_get_info(0)[0]) if torch.cuda.is_available() else None


def _if_it_fits(work: Callable[[], T]) -> T | None:
    """What a piece of work on the GPU gives; None where its memory does not suffice."""
    try:
        return work()
    except RuntimeError as error:  # all that faiss raises from C++
        if "out of memory" in str(error):
            return None
        raise EngineError(
            f"the index on the GPU failed (uv sync --extra cpu keeps it on the CPU): {error}"
        ) from error


class FaissNeighbours:
    """Exact, quadratic in the rows kept. 100,000 rows of 384 numbers: about half a minute."""

    def __init__(
        self, block: int = 1_024, index_rows: int = 32_768, on_gpu: GpuIndex | None = None
    ) -> None:
        self.block = block
        self.index_rows = index_rows
        self.on_gpu = on_gpu

    def first_kept(
        self, vectors: Floats, cosine: float, progress: Progress = no_progress
    ) -> FirstKept:
        """See stages.engines.Neighbours."""
        checked(vectors, cosine)
        search = _Search(vectors, cosine, self.index_rows, self.on_gpu)
        for first in range(0, len(vectors), self.block):
            last = min(first + self.block, len(vectors))
            search.settle(first, last)
            progress(last, len(vectors))
        return FirstKept(search.duplicate_of, search.cosine)


class _KeptRows:
    """Some kept rows in an index, and their row numbers in order."""

    def __init__(self, dim: int, on_gpu: GpuIndex | None) -> None:
        self.index = faiss.IndexFlatIP(dim)
        # None from the start or from the moment when the GPU has no room for it.
        self.gpu: Any = None if on_gpu is None else _if_it_fits(lambda: on_gpu(dim))
        self.numbers = np.empty(0, dtype=np.int64)

    def add(self, unit: npt.NDArray[np.float32], numbers: npt.NDArray[np.int64]) -> None:
        unit = np.ascontiguousarray(unit)
        self.index.add(unit)
        if self.gpu is not None and _if_it_fits(lambda: (self.gpu.add(unit),)) is None:
            self.gpu = None
        self.numbers = np.concatenate([self.numbers, numbers])

    def above(
        self, queries: npt.NDArray[np.float32], similarity: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """All pairs (query, row number) above `similarity`, by query and row number."""
        nearest = min(_NEAREST, len(self.numbers))
        found = None
        if self.gpu is not None:
            found = _if_it_fits(lambda: self.gpu.search(queries, nearest))
        if found is None:
            self.gpu = None
            query, member = self._within(queries, similarity)
        else:
            query, member = self._completed(queries, similarity, *found)
        number = self.numbers[member]
        order = np.lexsort((number, query))
        return query[order], number[order]

    def _within(
        self, queries: npt.NDArray[np.float32], similarity: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        limits, _, members = self.index.range_search(queries, similarity)
        return np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64))), members

    def _completed(
        self,
        queries: npt.NDArray[np.float32],
        similarity: float,
        similarities: npt.NDArray[np.float32],
        members: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The pairs above `similarity` among the nearest (queries, k), and those beyond them."""
        found = similarities > similarity
        more = found.all(axis=1) & (members.shape[1] < len(self.numbers))
        query, place = np.nonzero(found & ~more[:, None])
        again = np.flatnonzero(more)
        if not len(again):
            return query, members[query, place]
        many, within = self._within(queries[again], similarity)
        return (
            np.concatenate([query, again[many]]),
            np.concatenate([members[query, place], within]),
        )


class _Search:
    """What is settled so far, and the rows kept, in indexes of `index_rows` rows each."""

    def __init__(
        self, vectors: Floats, threshold: float, index_rows: int, on_gpu: GpuIndex | None
    ) -> None:
        self.vectors = vectors
        self.threshold = threshold
        # A float32 inner product of unit vectors is wrong by at most dim * 2^-24 each way.
        margin = 2e-5 + vectors.shape[1] * 2.0**-23
        self.proposed_from = threshold - (margin if on_gpu is None else margin + _TF32_MARGIN)
        self.index_rows = index_rows
        self.on_gpu = on_gpu
        self.kept: list[_KeptRows] = []
        self.duplicate_of = np.full(len(vectors), -1, dtype=np.int64)
        self.cosine = np.full(len(vectors), np.nan, dtype=np.float32)

    def settle(self, first: int, last: int) -> None:
        exact = in_float64(self.vectors, first, last)
        norms = np.sqrt(squared_norms(exact))
        somewhere = norms > 0  # a zero vector is like nothing
        unit = np.zeros(exact.shape, dtype=np.float32)
        unit[somewhere] = exact[somewhere] / norms[somewhere, None]
        open_rows = np.flatnonzero(somewhere)
        for kept_rows in self.kept:
            open_rows = self._against(first, exact, unit, open_rows, kept_rows)
        self._among_themselves(first, exact, unit, open_rows)
        kept = np.flatnonzero(somewhere & (self.duplicate_of[first:last] < 0))
        self._keep(unit[kept], first + kept)

    def _against(
        self,
        first: int,
        exact: Doubles,
        unit: npt.NDArray[np.float32],
        open_rows: npt.NDArray[np.int64],
        kept_rows: _KeptRows,
    ) -> npt.NDArray[np.int64]:
        """Settle the open rows that are like one of the kept rows; returns those still open."""
        if not len(open_rows):
            return open_rows
        query, member = kept_rows.above(unit[open_rows], self.proposed_from)
        row = open_rows[query]
        for start in range(0, len(row), _PAIRS):
            part = slice(start, start + _PAIRS)
            values = cosines(exact[row[part]], self._rows(member[part]))
            self._settle_first(first, row[part], member[part], values)
        return open_rows[self.duplicate_of[first + open_rows] < 0]

    def _settle_first(
        self,
        first: int,
        row: npt.NDArray[np.int64],
        member: npt.NDArray[np.int64],
        values: Doubles,
    ) -> None:
        alike = (values >= self.threshold) & (self.duplicate_of[first + row] < 0)
        rows, places = np.unique(row[alike], return_index=True)  # the first of each row
        self.duplicate_of[first + rows] = member[alike][places]
        self.cosine[first + rows] = values[alike][places]

    def _among_themselves(
        self,
        first: int,
        exact: Doubles,
        unit: npt.NDArray[np.float32],
        open_rows: npt.NDArray[np.int64],
    ) -> None:
        """Settle the rows of a block that are like an earlier, kept row of the same block."""
        own = unit[open_rows]
        proposed = np.tril(own @ own.T >= self.proposed_from, -1)
        kept = np.asarray(~proposed.any(axis=1), dtype=np.bool_).reshape(len(open_rows))
        # One by one, because whether a row counts depends on what became of the rows before it.
        for place in np.flatnonzero(~kept):
            row = open_rows[place]
            earlier = open_rows[np.flatnonzero(proposed[place] & kept)]
            values = cosines(
                np.broadcast_to(exact[row], (len(earlier), exact.shape[1])), exact[earlier]
            )
            alike = np.flatnonzero(values >= self.threshold)
            if len(alike):
                self.duplicate_of[first + row] = first + earlier[alike[0]]
                self.cosine[first + row] = values[alike[0]]
            else:
                kept[place] = True

    def _rows(self, rows: npt.NDArray[np.int64]) -> Doubles:
        return np.asarray(self.vectors[rows], dtype=np.float64)

    def _keep(self, unit: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> None:
        while len(rows):
            if not self.kept or len(self.kept[-1].numbers) >= self.index_rows:
                self.kept.append(_KeptRows(self.vectors.shape[1], self.on_gpu))
            room = self.index_rows - len(self.kept[-1].numbers)
            self.kept[-1].add(unit[:room], rows[:room])
            unit, rows = unit[room:], rows[room:]
