"""What every engine that runs vLLM in this process does before vLLM starts.

prepare_vllm()                 the environment; before anything imports vllm
vllm_arguments(config, ...)    what a config means in vLLM's words
"""

import importlib.util
import os
import warnings
from typing import Any

from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.vllm.config import VllmEmbedder, VllmHiddenStates, VllmModel

# Cache for 45,000 tokens of SmolLM2-135M in float32. vLLM's own default is a share of all memory
# that is free, and on a small machine it takes what the rest of the run needs.
_CPU_CACHE_GIB = 2
_CPU_BLOCK = 32
_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    # A forked engine would inherit the threads of torch, DuckDB and Prefect in whatever state they
    # are, and may wait for one of them for ever.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    # They have nothing to save. With vLLM's 5 s it is often its own patience that ends first.
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "2",
}
# Whoever sets one of these wants to see what vLLM says, and where: nothing is hidden then.
_LOGGING = (
    "VLLM_CONFIGURE_LOGGING",
    "VLLM_LOGGING_LEVEL",
    "VLLM_LOGGING_STREAM",
    "VLLM_LOGGING_CONFIG_PATH",
)


def prepare_vllm() -> None:
    """No usage statistics, and processes that inherit nothing. The user's own settings stay."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what vLLM itself uses of torch
        _imported()
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(_CPU_CACHE_GIB))


def shows_its_log() -> bool:
    """Whether the user asked vLLM itself for its messages."""
    return any(name in os.environ for name in _LOGGING)


def _imported() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise ModuleNotFoundError("No module named 'vllm'", name="vllm")
    try:
        import vllm.engine.arg_utils
        import vllm.v1.engine.async_llm  # noqa: F401 - its imports are what takes 20 s
    except (ImportError, RuntimeError, OSError) as error:
        raise ModelUnavailable(f"vLLM is installed and does not load: {error}") from error


def vllm_arguments(
    config: VllmModel | VllmEmbedder | VllmHiddenStates, folder: str, revision: str | None
) -> dict[str, Any]:
    """Keyword arguments of vLLM's EngineArgs; `revision` is the commit of a hub id."""
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    eager = config.enforce_eager
    return {
        "model": folder,
        "revision": revision,
        "tokenizer_revision": revision,
        "dtype": config.dtype,
        "quantization": config.quantization,
        "max_model_len": config.max_model_len,
        "tensor_parallel_size": config.tensor_parallel_size,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "max_num_seqs": config.max_num_seqs,
        # Compiling takes minutes on a CPU and gains nothing there that a test could see.
        "enforce_eager": on_cpu if eager is None else eager,
        "enable_prefix_caching": True,
        # The least that its CPU attention takes (GPUs: 16); its default of 128 would keep long
        # beginnings of prompts only.
        "block_size": _CPU_BLOCK if on_cpu else None,
        # Sampling settings that a model ships with would change answers behind the recipe's back.
        "generation_config": "vllm",
        # On a CPU, vLLM 0.32 dies ("CPU Generator does not use offset") when a prompt whose answer
        # is sampled with a seed is read in parts, as it is when many are read in one step.
        "enable_chunked_prefill": False if on_cpu and isinstance(config, VllmModel) else None,
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
    }
