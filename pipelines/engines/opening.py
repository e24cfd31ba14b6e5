"""Engines from their configs. Each model library is imported here, when it is first asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, assert_never

from pipelines.engines.bundled import Bundled, bundled_folder
from pipelines.engines.config import InProcessVllm, LocalModel, ModelConfig, ServedModel
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.libraries import is_installed, lacking, not_installed
from pipelines.engines.local_config import NliModel, SentenceTransformersModel, TransformersModel
from pipelines.engines.server_config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.sources import Hub, source_of
from pipelines.engines.vllm_config import VllmEmbedder, VllmHiddenStates, VllmModel
from stages.engines import Engine, Neighbours


def open_engine(config: ModelConfig) -> Engine:
    """The engine of `config`, ready to answer. Raises ModelUnavailable with what to do.

    The network is asked only for a hub id, and then only for what the hub cache lacks, and for a
    model that a server holds.
    """
    prepare_environment()
    if problem := lacking(config):
        raise ModelUnavailable(problem)
    with _library():
        if isinstance(config, LocalModel):
            return _local(config)
        if isinstance(config, InProcessVllm):
            return _vllm(config)
        if isinstance(config, ServedModel):
            return _served(config)
    assert_never(config)


def _local(config: LocalModel) -> Engine:
    _quiet()
    folder, hub = _folder(config.model, config.revision)
    with _readable(config.model):
        if isinstance(config, TransformersModel):
            from pipelines.engines.transformers_engine import TransformersEngine

            return TransformersEngine(config, folder, **hub)
        if isinstance(config, SentenceTransformersModel):
            from pipelines.engines.sentence_embedder import SentenceEmbedder

            return SentenceEmbedder(config, folder, **hub)
        if isinstance(config, NliModel):
            from pipelines.engines.nli import NliClassifier

            return NliClassifier(config, folder, **hub)
    assert_never(config)


def _vllm(config: InProcessVllm) -> Engine:
    _quiet()
    folder, hub = _folder(config.model, config.revision)
    with _readable(config.model):
        if isinstance(config, VllmModel):
            from pipelines.engines.vllm_engine import VllmEngine

            return VllmEngine(config, folder, **hub)
        if isinstance(config, VllmEmbedder):
            from pipelines.engines.vllm_pooling import VllmSentenceEmbedder

            return VllmSentenceEmbedder(config, folder, **hub)
        if isinstance(config, VllmHiddenStates):
            from pipelines.engines.vllm_pooling import VllmStates

            return VllmStates(config, folder, **hub)
    assert_never(config)


def _served(config: ServedModel) -> Engine:
    if isinstance(config, OpenAiModel):
        from pipelines.engines.server_engine import ServerEngine

        return ServerEngine(config)
    if isinstance(config, OpenAiEmbedder):
        from pipelines.engines.server_embedder import ServerEmbedder

        return ServerEmbedder(config)
    assert_never(config)


def open_neighbours() -> Neighbours:
    """An exact index over vectors, on a GPU where faiss knows one. Raises ModelUnavailable."""
    prepare_environment()
    with _library():
        from pipelines.engines.faiss_neighbours import FaissNeighbours, gpu_index

        return FaissNeighbours(on_gpu=gpu_index())


def _folder(model: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What from_pretrained is given. Raises ModelUnavailable."""
    source = source_of(model, revision)
    if isinstance(source, Hub):
        return source.name, {"revision": source.commit}
    if isinstance(source, Bundled):
        return str(bundled_folder(source)), {"local_files_only": True}
    return str(source.folder), {"local_files_only": True}


@contextmanager
def _library() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        name = (error.name or "").split(".")[0]
        if name and not is_installed(name):
            raise ModelUnavailable(not_installed(name)) from error
        # It is there and broken: a part of another version, a shared library that is missing.
        raise ModelUnavailable(f"a library is installed and cannot be used: {error}") from error


@contextmanager
def _readable(model: str) -> Iterator[None]:
    # from_pretrained reports missing files, an unreachable hub and unknown architectures like this.
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the model '{model}' cannot be opened: {error}") from error


def prepare_environment() -> None:
    """Before any model library is loaded. What the user's environment says stays."""
    for switch in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(switch, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait for one another take the cores from whoever works: beside
    # two other busy processes on 2 cores, generation ran 7 times slower than with sleeping ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _quiet() -> None:
    """No progress bars; errors only."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
