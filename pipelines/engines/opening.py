"""Engines from their configs. Each model library is imported here, when it is first asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from pipelines.engines.config import InProcessVllm, LocalModel, ModelConfig, ServedModel
from pipelines.engines.errors import ModelUnavailable
from pipelines.engines.from_pretrained import place, quiet, readable
from pipelines.engines.libraries import is_installed, lacking, not_installed
from pipelines.engines.local.config import NliModel, SentenceTransformersModel, TransformersModel
from pipelines.engines.server.config import OpenAiEmbedder, OpenAiModel
from pipelines.engines.sources import source_of
from pipelines.engines.vllm.config import VllmEmbedder, VllmHiddenStates, VllmModel
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
    quiet()
    folder, hub = place(source_of(config.model, config.revision))
    with readable(config.model):
        if isinstance(config, TransformersModel):
            from pipelines.engines.local.transformers_engine import TransformersEngine

            return TransformersEngine(config, folder, **hub)
        if isinstance(config, SentenceTransformersModel):
            from pipelines.engines.local.sentence_embedder import SentenceEmbedder

            return SentenceEmbedder(config, folder, **hub)
        if isinstance(config, NliModel):
            from pipelines.engines.local.nli import NliClassifier

            return NliClassifier(config, folder, **hub)
    assert_never(config)


def _vllm(config: InProcessVllm) -> Engine:
    quiet()
    folder, hub = place(source_of(config.model, config.revision))
    with readable(config.model):
        if isinstance(config, VllmModel):
            from pipelines.engines.vllm.engine import VllmEngine

            return VllmEngine(config, folder, **hub)
        if isinstance(config, VllmEmbedder):
            from pipelines.engines.vllm.pooling import VllmSentenceEmbedder

            return VllmSentenceEmbedder(config, folder, **hub)
        if isinstance(config, VllmHiddenStates):
            from pipelines.engines.vllm.pooling import VllmStates

            return VllmStates(config, folder, **hub)
    assert_never(config)


def _served(config: ServedModel) -> Engine:
    if isinstance(config, OpenAiModel):
        from pipelines.engines.server.engine import ServerEngine

        return ServerEngine(config)
    if isinstance(config, OpenAiEmbedder):
        from pipelines.engines.server.embedder import ServerEmbedder

        return ServerEmbedder(config)
    assert_never(config)


def open_neighbours() -> Neighbours:
    """An exact index over vectors, on a GPU where faiss knows one. Raises ModelUnavailable."""
    prepare_environment()
    with _library():
        from pipelines.engines.faiss_neighbours import FaissNeighbours, gpu_index

        return FaissNeighbours(on_gpu=gpu_index())


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


def prepare_environment() -> None:
    """Before any model library is loaded. What the user's environment says stays."""
    for switch in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(switch, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads that spin while they wait for one another take the cores from whoever works: beside
    # two other busy processes on 2 cores, generation ran 7 times slower than with sleeping ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
