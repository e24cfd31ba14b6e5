"""Arrays of whichever library the caller brought (numpy, torch), through the array API.

Nothing here imports torch. Arrays are typed `Any`: the array API has no static type.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import array_api_compat
import numpy as np

Array: TypeAlias = Any
Namespace: TypeAlias = Any
Part = TypeVar("Part")
Result = TypeVar("Result")

# Products of so many multiplications OpenBLAS leaves to the thread that asks.
_ALONE = 2**18
_FEWEST_ROWS = 32

_POOLS: dict[int, ThreadPoolExecutor] = {}


def without_gradient(array: Array) -> Array:
    """The same values, outside the graph of automatic differentiation. Nothing is copied."""
    return array.detach() if array_api_compat.is_torch_array(array) else array


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """The values on the host. Shares memory where it can."""
    if array_api_compat.is_torch_array(array):
        array = array_api_compat.to_device(array.detach(), "cpu")
    return np.asarray(array)


def on_cpu(array: Array) -> bool:
    return str(array_api_compat.device(array)).startswith("cpu")


def products(xp: Namespace, many: Array, few: Array) -> Array:
    """All inner products of rows (n, D) and (m, D): many @ few.T.

    numpy's BLAS would share a product of 17 million multiplications out to its threads, which spin
    while they wait for one another: beside other work on 2 cores 8 sketches against a ring of 1,024
    took 53 ms, and 2 ms in pieces that it leaves to one thread (alone 1.4 and 1.1).
    """
    rows = _ALONE // max(1, few.shape[0] * few.shape[1])
    if not array_api_compat.is_numpy_namespace(xp) or rows < _FEWEST_ROWS:
        return many @ few.T
    pieces = [many[at : at + rows, :] @ few.T for at in range(0, max(1, many.shape[0]), rows)]
    return xp.concat(pieces, axis=0)


def each_on_a_thread(
    xp: Namespace, work: Callable[[Part], Result], parts: Sequence[Part]
) -> list[Result]:
    """`work` of each part, in order, on CPU, each on one thread of torch's.

    LAPACK's symmetric eigenvalues gain nothing from a second thread (T = 512, float64, MKL: 13 ms
    with one, 12 with two) and lose all beside another process (T = 256 on 2 cores: 3 s), so
    torch's threads are shared out over the samples instead. numpy's BLAS cannot be told so from
    here: it goes one by one.
    """
    if not array_api_compat.is_torch_namespace(xp):
        return [work(part) for part in parts]
    threads = xp.get_num_threads()
    workers = min(threads, len(parts))
    if workers <= 1:
        xp.set_num_threads(1)
        try:
            return [work(part) for part in parts]
        finally:
            xp.set_num_threads(threads)

    def alone(part: Part) -> Result:
        # torch keeps the number for each thread; a later one takes what was set last anywhere.
        if xp.get_num_threads() != 1:
            xp.set_num_threads(1)
        return work(part)

    if workers not in _POOLS:
        _POOLS[workers] = ThreadPoolExecutor(workers, thread_name_prefix="uds")
    try:
        return list(_POOLS[workers].map(alone, parts))
    finally:
        xp.set_num_threads(threads)
