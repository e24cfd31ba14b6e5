"""Selection over a whole set against slow, plain forms of the same."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.uds.offline import Samples, lowest_of_each, select_greedily, select_in_batches

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=40, deadline=None)


def make(seed, count, width=6):
    rng = np.random.default_rng(seed)
    sketches = rng.integers(-9, 9, (count, width)).astype(np.float16) / 8
    return Samples(
        rng.integers(1, 20, count).astype(float), sketches, rng.integers(1, 9, count) * 1e5
    )


def silent(done, total):
    pass


def slow_greedy(samples, budget, keep, alpha, queue_size):
    """The rows in the order in which they are taken, and the diversity that each had then."""
    whole = samples.of(slice(None))
    ring = deque(maxlen=queue_size)
    taken = {}
    while len(taken) < min(budget, len(samples)):
        left = [row for row in range(len(samples)) if row not in taken]
        diversity = {
            row: float(np.float32(np.mean([np.linalg.norm(whole[row] - whole[at]) for at in ring])))
            if ring
            else 0.0
            for row in left
        }
        best = sorted(left, key=lambda row: -(samples.utility[row] + alpha * diversity[row]))
        for row in best[: min(keep, budget - len(taken))]:
            taken[row] = diversity[row]
            ring.append(row)
    return taken


@quick
@given(
    seed=seeds,
    count=st.integers(1, 25),
    budget=st.integers(1, 30),
    keep=st.integers(1, 7),
    queue_size=st.integers(1, 9),
)
def test_greedy_rounds_are_those_of_the_plain_form(seed, count, budget, keep, queue_size):
    samples, alpha = make(seed, count), 1e-5
    found = select_greedily(samples, budget, keep, alpha, queue_size, silent)
    expected = slow_greedy(samples, budget, keep, alpha, queue_size)
    assert np.flatnonzero(found.kept).tolist() == sorted(expected)
    assert found.kept.sum() == min(budget, count)
    rounds = {row: at // keep for at, row in enumerate(expected)}
    for row, diversity in expected.items():
        assert found.diversity[row] == pytest.approx(diversity, rel=1e-6)
        assert found.group[row] == rounds[row]
    assert (found.group[~found.kept] == -1).all()


def test_blocks_that_are_made_anew_give_the_same_as_blocks_that_are_held():
    samples = make(1, 5_000)
    held = select_greedily(samples, 20, 3, 1e-5, 7, silent)
    anew = select_greedily(samples, 20, 3, 1e-5, 7, silent, held_bytes=0)
    np.testing.assert_array_equal(held.kept, anew.kept)
    np.testing.assert_array_equal(held.diversity, anew.diversity)


def test_a_row_equal_to_one_that_was_taken_has_no_distance_to_it():
    samples = Samples(np.array([3.0, 2.0]), np.full((2, 6), 1, np.float16), np.full(2, 1.2345e7))
    assert select_greedily(samples, 1, 1, 1.0, 4, silent).diversity.tolist() == [0, 0]


def test_progress_is_told_to_the_end():
    told = []
    samples = make(0, 40)
    batches = np.split(np.arange(40), 10)
    select_in_batches(samples, batches, 1, 1e-5, 5, lambda *now: told.append(now))
    select_greedily(samples, 13, 2, 1e-5, 5, lambda *now: told.append(now))
    assert (told[0], told[-2], told[-1]) == ((4, 40), (40, 40), (13, 13))


@quick
@given(seed=seeds, count=st.integers(0, 30), keep=st.integers(1, 5))
def test_the_lowest_of_each_group_are_those_of_a_plain_sort(seed, count, keep):
    rng = np.random.default_rng(seed)
    groups, keys = rng.integers(0, 4, count), rng.integers(0, 5, count)
    expected = np.zeros(count, bool)
    for group in set(groups.tolist()):
        rows = [row for row in range(count) if groups[row] == group]
        expected[sorted(rows, key=lambda row: (keys[row], row))[:keep]] = True
    assert lowest_of_each(groups, keys, keep).tolist() == expected.tolist()
