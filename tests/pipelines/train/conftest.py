"""A tiny random Llama with the bundled tokenizer, and a table to train it on."""

from pathlib import Path

import pytest

from pipelines.engines.opening import prepare_environment
from tests.pipelines.train.bench import Bench, tiny_llama

# Before any test module imports torch.
prepare_environment()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder: float32, 2 layers, width 64."""
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def bench(tiny: Path, tmp_path: Path) -> Bench:
    """Trainings of the tiny model in a folder of their own."""
    return Bench(tmp_path, tiny)
