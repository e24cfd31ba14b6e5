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


def each_on_a_thread(
    xp: Namespace, work: Callable[[Part], Result], parts: Sequence[Part]
) -> list[Result]:
    """`work` of each part, in order, on CPU.

    LAPACK's symmetric eigenvalues gain nothing from a second thread (T = 512, float64, MKL: 13 ms
    with one, 12 with two, 25 with two while another process is busy), so torch's threads are shared
    out over the samples instead. numpy's BLAS cannot be told so from here: it goes one by one.
    """
    threads = xp.get_num_threads() if array_api_compat.is_torch_namespace(xp) else 1
    workers = min(threads, len(parts))
    if workers <= 1:
        return [work(part) for part in parts]

    def alone(part: Part) -> Result:
        # torch keeps the number for each thread; a later one takes what was set last anywhere.
        if xp.get_num_threads() != threads // workers:
            xp.set_num_threads(threads // workers)
        return work(part)

    if workers not in _POOLS:
        _POOLS[workers] = ThreadPoolExecutor(workers, thread_name_prefix="uds")
    try:
        return list(_POOLS[workers].map(alone, parts))
    finally:
        xp.set_num_threads(threads)
