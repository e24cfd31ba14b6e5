"""Where a model runs, and what it means when that place fails."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.local.config import Dtype
from stages.engines import EngineError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What torch says in a plain RuntimeError when a device or the memory is gone.
_DEVICE_GONE = (
    "CUDA error",
    "CUBLAS_STATUS",
    "CUDNN_STATUS",
    "can't allocate memory",
    "NCCL error",
)


def torch_dtype(name: Dtype) -> torch.dtype:
    return _DTYPES[name]


def chosen_device(wanted: str) -> torch.device:
    """The device that a config names; "auto" is the first CUDA GPU, else the CPU.

    Raises ModelUnavailable when it is not there.
    """
    if wanted == "auto":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        try:
            device = torch.device(wanted)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ModelUnavailable(f"there is no device '{wanted}': {error}") from error
    if device.type == "cpu":
        _use_the_cores_we_may()
    return device


def _use_the_cores_we_may() -> None:
    # torch counts the machine's cores; a container or taskset may allow fewer, and threads that
    # wait for each other's core are several times slower. OMP_NUM_THREADS stays the user's say.
    if "OMP_NUM_THREADS" in os.environ or not hasattr(os, "sched_getaffinity"):
        return
    allowed = len(os.sched_getaffinity(0))
    if allowed < torch.get_num_threads():
        torch.set_num_threads(allowed)


def free_memory() -> None:
    """Gives back what deleted models held, for the next engine and for other processes."""
    # A SentenceTransformer and its model card refer to each other: only the collector finds them.
    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # of a device that has failed, which is told elsewhere
            torch.cuda.empty_cache()  # torch keeps freed blocks for itself


@contextmanager
def device_errors(advice: str) -> Iterator[None]:
    """Turn memory and device failures into EngineError; every other exception passes."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineError(f"the device is out of memory ({advice}): {error}") from error
    except torch.AcceleratorError as error:
        raise EngineError(f"the device failed: {error}") from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _DEVICE_GONE):
            raise EngineError(f"the device failed: {error}") from error
        raise
