"""Keeping all is plain training, whatever the sizes are."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipelines.train.bench import Bench
from tests.pipelines.train.test_trainer import LORA, plain_losses


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    batch=st.integers(1, 7),
    accumulated=st.integers(1, 3),
    seed=st.integers(0, 1000),
    lora=st.sampled_from([None, LORA]),
    method=st.sampled_from(["uds", "random", "loss", "longest"]),
)
def test_keeping_all_is_plain_training_whatever_the_sizes(
    tiny: Path, batch: int, accumulated: int, seed: int, lora: Any, method: str
) -> None:
    changes = {
        "selection": {"method": method, "batch": batch, "keep": batch},
        "batch_size": batch * accumulated,
        "seed": seed,
        "lora": lora,
    }
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), tiny)
        bench.train(**changes)
        expected = plain_losses(bench, **changes)
        np.testing.assert_allclose(bench.losses(), expected, rtol=0, atol=1e-5)
