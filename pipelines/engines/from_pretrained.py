"""What every `from_pretrained` of the model libraries is given, and what its errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.engines.bundled import Bundled, bundled_folder
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.sources import Hub, ModelSource


def place(source: ModelSource) -> tuple[str, dict[str, Any]]:
    """A name or folder, and arguments beside it. Raises ModelUnavailable."""
    if isinstance(source, Hub):
        return source.name, {"revision": source.commit}
    folder = bundled_folder(source) if isinstance(source, Bundled) else source.folder
    return str(folder), {"local_files_only": True}


@contextmanager
def readable(model: str) -> Iterator[None]:
    """Turn what the libraries raise for a model that cannot be read into ModelUnavailable."""
    # Missing files, an unreachable hub and unknown architectures are reported like this.
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the model '{model}' cannot be opened: {error}") from error


def quiet() -> None:
    """No progress bars of transformers; errors only."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
