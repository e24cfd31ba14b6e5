"""Properties of the scores of a real (tiny) model, whatever the batch looks like."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.output_head import output_head
from pipelines.train.candidates import Candidates, NotFinite
from pipelines.train.scorer import ModelScorer
from pipelines.train.selection_config import Uds
from pipelines.train.uds_selection import UdsSelection

SAMPLES = st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=30), min_size=1, max_size=6)
PADDING = st.integers(0, 12)
SPOILT = 50  # a token


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny), dtype=torch.float32).eval()


def chosen(model: Any, samples: list[list[int]], padding: int, keep: int = 1) -> Any:
    width = max(map(len, samples)) + padding
    ids = torch.tensor([[*one, *[7] * (width - len(one))] for one in samples])
    mask = torch.tensor([[place < len(one) for place in range(width)] for one in samples]).long()
    batch = Candidates(ids, mask, torch.zeros(len(samples)), ModelScorer(model, nullcontext))
    selection = UdsSelection(Uds(batch=6, keep=keep), output_head(model), max_length=64)
    with torch.no_grad():
        return selection.choose(batch)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(samples=SAMPLES, padding=PADDING, seed=st.integers(0, 2**31))
def test_a_score_depends_on_the_samples_own_tokens_alone(
    model: Any, samples: list[list[int]], padding: int, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(samples)).tolist()

    found = chosen(model, [samples[place] for place in order], padding)

    alone = [float(chosen(model, [samples[place]], 0).figures["utility"][0]) for place in order]
    np.testing.assert_allclose(found.figures["utility"], alone, rtol=1e-5)
    assert found.picked == (int(np.argmax(found.figures["utility"])),)


@settings(max_examples=30, deadline=None)
@given(samples=SAMPLES, padding=PADDING, spoilt=st.sets(st.integers(0, 5)))
def test_exactly_the_samples_with_states_that_are_no_numbers_are_named(
    model: Any, samples: list[list[int]], padding: int, spoilt: set[int]
) -> None:
    bad = sorted(place for place in spoilt if place < len(samples))
    for place in range(len(samples)):
        others = [6 if token == SPOILT else token for token in samples[place]]
        samples[place] = [SPOILT if place in bad else 6, *others]
    embeddings = model.get_input_embeddings()
    watch = embeddings.register_forward_hook(
        lambda _, given, made: torch.where(given[0][..., None] == SPOILT, float("nan"), made)
    )
    try:
        if not bad:
            assert len(chosen(model, samples, padding).picked) == 1
            return
        with pytest.raises(NotFinite) as caught:
            chosen(model, samples, padding)
    finally:
        watch.remove()
    assert caught.value.places == tuple(bad)


@settings(max_examples=20, deadline=None)
@given(samples=SAMPLES, keep=st.integers(1, 6))
def test_no_more_are_picked_than_asked_for_and_none_twice(
    model: Any, samples: list[list[int]], keep: int
) -> None:
    picked = chosen(model, samples, 0, keep).picked

    assert len(set(picked)) == len(picked) == min(keep, len(samples))
