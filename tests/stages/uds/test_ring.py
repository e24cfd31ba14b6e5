import array_api_compat
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.uds.ring import SketchRing
from stages.uds.ring_order import entering


@settings(deadline=None)
@given(size=st.integers(1, 9), pushes=st.lists(st.integers(1, 20), max_size=8))
def test_the_ring_holds_the_newest_and_wraps(size, pushes):
    ring = SketchRing(size, 2, np, "cpu")
    written = np.zeros((size, 2), dtype=np.float32)
    numbers = iter(range(1, 1000))
    at = 0
    for count in pushes:
        rows = np.array([[next(numbers)] * 2 for _ in range(count)], dtype=np.float32)
        ring.push(rows)
        for row in rows:  # the slow way: one at a time
            written[at % size] = row
            at += 1
    state = ring.state()
    np.testing.assert_array_equal(state["ring"], written)
    assert (int(state["count"]), int(state["pointer"])) == (min(at, size), at % size)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]))
def test_mean_distance_is_exact_even_to_the_nearest(seed, spread):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=32) * 1e5
    held = (centre * (1 + spread * rng.normal(size=(6, 32)))).astype(np.float32)
    new = np.concatenate([held[:1], rng.normal(size=(1, 32)).astype(np.float32) * 1e5])
    ring = SketchRing(6, 32, np, "cpu")
    ring.push(held)
    differences = held.astype(np.float64)[None] - new.astype(np.float64)[:, None]
    wanted = np.linalg.norm(differences, axis=-1).mean(1)
    np.testing.assert_allclose(ring.mean_distance(new), wanted, rtol=1e-6)


def test_nothing_is_far_from_an_empty_ring():
    ring = SketchRing(3, 2, array_api_compat.array_namespace(torch.ones(1)), "cpu")
    assert ring.mean_distance(torch.ones(2, 2)).tolist() == [0, 0]


def test_a_pointer_that_does_not_fit_is_refused():
    state = {"ring": np.zeros((3, 2)), "count": np.array(2), "pointer": np.array(0)}
    problems = SketchRing(3, 2, np, "cpu").problems(state)
    assert problems == ["count 2 and pointer 0 do not fit a ring of 3"]


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 16), data=st.data())
def test_the_released_order_is_what_torch_leaves_unsorted(seed, samples, data):
    k = data.draw(st.integers(1, samples))
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=samples))
    picked = torch.argsort(-scores)[:k].tolist()
    wanted = torch.topk(scores, k, sorted=False).indices.tolist()
    assert entering("released", scores.tolist(), picked) == wanted


@settings(deadline=None)
@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=20), data=st.data())
def test_every_order_lets_the_picked_ones_in(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    picked = sorted(range(len(scores)), key=lambda at: (-scores[at], at))[:k]
    assert sorted(entering("released", scores, picked)) == sorted(picked)
    assert entering("descending", scores, picked) == picked
