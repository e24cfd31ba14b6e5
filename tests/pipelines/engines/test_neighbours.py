"""One suite for all: the numpy reference, FAISS on the CPU, and FAISS on a GPU.

Where there is no GPU, two stand-ins for its index show that what it can do is enough: one gives
the nearest rows only, the other one also multiplies as roughly as TF32 does.
"""

import subprocess
import sys

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.faiss_neighbours import FaissNeighbours, gpu_index
from pipelines.engines.neighbours import NumpyNeighbours
from pipelines.engines.opening import open_neighbours
from stages.engines import EngineError


class RoughIndex:
    """An inner-product index whose numbers have the 10 bits of mantissa of TF32, the rest cut."""

    def __init__(self, dim: int) -> None:
        self.index = faiss.IndexFlatIP(dim)

    def add(self, rows: np.ndarray) -> None:
        self.index.add(_cut(rows))

    def search(self, rows: np.ndarray, nearest: int) -> tuple[np.ndarray, np.ndarray]:
        return self.index.search(_cut(rows), nearest)


def _cut(rows: np.ndarray) -> np.ndarray:
    return (rows.view(np.int32) & ~0x1FFF).view(np.float32)


def _on_a_gpu(block: int, index_rows: int) -> FaissNeighbours:
    on_gpu = gpu_index()
    if on_gpu is None:
        pytest.skip("faiss sees no GPU here, or finds no room on it")
    return FaissNeighbours(block, index_rows, on_gpu)


# (block, index_rows) -> an index
MAKERS = {
    "numpy": lambda block, index_rows: NumpyNeighbours(),
    "cpu": FaissNeighbours,
    "nearest": lambda block, rows: FaissNeighbours(block, rows, on_gpu=faiss.IndexFlatIP),
    "rough": lambda block, rows: FaissNeighbours(block, rows, on_gpu=RoughIndex),
    "gpu": _on_a_gpu,
}
KINDS = [pytest.param(kind, marks=pytest.mark.gpu if kind == "gpu" else ()) for kind in MAKERS]
EACH = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=KINDS)
def neighbours(request):
    return MAKERS[request.param](2, 3)


def _equal(vectors, cosine, neighbours):
    expected = NumpyNeighbours().first_kept(vectors, cosine)
    found = neighbours.first_kept(vectors, cosine)
    np.testing.assert_array_equal(found.duplicate_of, expected.duplicate_of)
    np.testing.assert_array_equal(found.cosine, expected.cosine)


def test_a_row_repeats_the_first_kept_row_that_is_similar_enough(neighbours):
    angles = np.deg2rad([0, 90, 10, 20, 100, 45, 0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = neighbours.first_kept(vectors, float(np.cos(np.deg2rad(15))))
    # 20 degrees is near 10 degrees alone, and that one went: so it stays.
    assert found.duplicate_of.tolist() == [-1, -1, 0, -1, 1, -1, 0]
    expected = np.cos(np.deg2rad([np.nan, np.nan, 10, np.nan, 10, np.nan, 0])).astype(np.float32)
    np.testing.assert_allclose(found.cosine, expected, atol=1e-6)
    assert found.cosine.dtype == np.float32


def test_the_first_kept_row_wins_over_a_nearer_one(neighbours):
    angles = np.deg2rad([0, 30, 20])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = neighbours.first_kept(vectors, float(np.cos(np.deg2rad(25))))
    assert found.duplicate_of.tolist() == [-1, -1, 0]


def test_equal_vectors_have_a_cosine_of_exactly_1(neighbours):
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(4, 37)).astype(np.float16), 3, axis=0)
    found = neighbours.first_kept(vectors, 1.0)
    assert found.duplicate_of.tolist() == [-1, 0, 0, -1, 3, 3, -1, 6, 6, -1, 9, 9]
    assert np.nanmin(found.cosine) == np.nanmax(found.cosine) == 1.0


def test_a_zero_vector_is_like_nothing(neighbours):
    vectors = np.array([[0, 0], [1, 0], [0, 0], [2, 0]], dtype=np.float32)
    assert neighbours.first_kept(vectors, 0.5).duplicate_of.tolist() == [-1, -1, -1, 1]


def test_no_rows_have_no_neighbours(neighbours):
    found = neighbours.first_kept(np.zeros((0, 8), dtype=np.float32), 0.9)
    assert (found.duplicate_of.shape, found.cosine.shape) == ((0,), (0,))


def test_a_vector_that_is_not_finite_is_named(neighbours):
    vectors = np.array([[1, 0], [0, 1], [np.nan, 1], [1, 1]], dtype=np.float32)
    with pytest.raises(ValueError, match="the vector of row 2 is not finite"):
        neighbours.first_kept(vectors, 0.9)


@pytest.mark.parametrize("cosine", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_lies_above_0_and_not_above_1(neighbours, cosine):
    with pytest.raises(ValueError, match="a cosine threshold lies in"):
        neighbours.first_kept(np.ones((2, 2), dtype=np.float32), cosine)


def test_progress_ends_with_all_rows(neighbours):
    told = []
    neighbours.first_kept(np.eye(5, dtype=np.float32), 0.9, lambda *told_now: told.append(told_now))
    assert told[-1] == (5, 5)
    assert told == sorted(told)


@EACH
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 60),
    dim=st.integers(1, 20),
    cosine=st.sampled_from([0.05, 0.3, 0.7, 0.9, 0.99, 0.99999, 1.0]),
    noise=st.sampled_from([0.0, 1e-6, 1e-3, 0.3]),
    block=st.integers(1, 9),
    index_rows=st.integers(1, 9),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
)
def test_each_gives_what_numpy_gives(
    kind, seed, rows, dim, cosine, noise, block, index_rows, dtype
):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim))
    vectors = centres[rng.integers(0, 5, rows)] + noise * rng.normal(size=(rows, dim))
    _equal(vectors.astype(dtype), cosine, MAKERS[kind](block, index_rows))


@EACH
def test_each_gives_what_numpy_gives_at_its_real_block_sizes(kind):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2_500, 16)).astype(np.float16)
    _equal(vectors, 0.75, MAKERS[kind](1_024, 32_768))


@EACH
def test_each_gives_what_numpy_gives_where_many_cosines_lie_at_the_threshold(kind):
    # All cosines of these small whole numbers are among a few values; one of them is the threshold.
    rng = np.random.default_rng(0)
    vectors = rng.integers(-1, 2, size=(600, 4)).astype(np.float32)
    _equal(vectors, 1 / np.sqrt(2), MAKERS[kind](64, 50))


@EACH
@pytest.mark.parametrize("cosine", [0.09, 0.2, 0.99])
def test_rows_with_more_neighbours_than_an_index_gives_at_a_time_find_the_first(kind, cosine):
    # The row of ones has a cosine of 0.1 with each of 100 kept rows; a GPU gives the nearest 64.
    rng = np.random.default_rng(0)
    some = rng.random(size=(200, 100)) * (rng.random(size=(200, 100)) < 0.1)
    vectors = np.vstack([np.eye(100), np.ones((1, 100)), some, 2 * np.eye(100)[::-1]])
    _equal(vectors.astype(np.float32), cosine, MAKERS[kind](64, 500))


FULL = "StandardGpuResources: alloc fail type FlatData (cudaMalloc error out of memory [2])"


class SmallGpu:
    """Makes indexes until a number of calls to the GPU is used up; then it fails each time."""

    def __init__(self, calls: int, message: str) -> None:
        self.left, self.message = calls, message

    def __call__(self, dim: int) -> "SmallGpu":
        self._call()
        made = SmallGpu(0, "")
        made._call, made.index = self._call, faiss.IndexFlatIP(dim)
        return made

    def _call(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError(self.message)

    def add(self, rows: np.ndarray) -> None:
        self._call()
        self.index.add(rows)

    def search(self, rows: np.ndarray, nearest: int) -> tuple[np.ndarray, np.ndarray]:
        self._call()
        return self.index.search(rows, nearest)


@pytest.mark.parametrize("calls", range(0, 40, 3))
def test_what_does_not_fit_on_the_gpu_is_searched_on_the_cpu(calls):
    vectors = np.random.default_rng(3).normal(size=(60, 6))
    _equal(vectors, 0.7, FaissNeighbours(8, 10, on_gpu=SmallGpu(calls, FULL)))


@pytest.mark.parametrize("calls", [0, 1, 2])  # an index made, rows added, rows searched
def test_a_gpu_that_is_gone_is_an_engine_that_is_gone(calls):
    broken = FaissNeighbours(8, 10, on_gpu=SmallGpu(calls, "CUDA error 700"))
    with pytest.raises(EngineError, match=r"the index on the GPU failed \(.*\): CUDA error 700"):
        broken.first_kept(np.random.default_rng(3).normal(size=(60, 6)), 0.7)


_ALL_ALIKE = """
import re
from pathlib import Path
import numpy as np
from pipelines.engines.faiss_neighbours import FaissNeighbours, gpu_index
def peak():  # of this process alone, in KiB: ru_maxrss begins with what the parent had
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
vectors = np.ones((100_000, 64), dtype=np.float16)
before = peak()
found = FaissNeighbours().first_kept(vectors, 0.9)
assert (found.duplicate_of[1:] == 0).all() and found.duplicate_of[0] == -1
print((peak() - before) // 1024)
"""


def test_100_000_equal_vectors_need_little_memory():
    done = subprocess.run([sys.executable, "-c", _ALL_ALIKE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 300  # MiB; all pairs would be 60 GB


def test_the_index_that_is_opened_is_exact():
    _equal(np.random.default_rng(2).normal(size=(50, 8)), 0.5, open_neighbours())
