"""Reliability curve, expected calibration error and Brier score, against values by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.clear.reliability import Bin, reliability


def of(scores: list[float], labels: list[int], bins: int = 15):
    return reliability(np.array(scores, float), np.array(labels, bool), bins)


def test_the_error_is_the_mean_distance_of_bins_from_what_they_promise() -> None:
    found = of([0.1, 0.3, 0.6, 0.8], [0, 0, 1, 0], bins=2)

    assert found.bins == (
        Bin(rows=2, lowest=0.1, highest=0.3, mean=0.2, true=0.0),
        Bin(rows=2, lowest=0.6, highest=0.8, mean=0.7, true=0.5),
    )
    assert (found.rows, found.true) == (4, 1)
    assert found.error == pytest.approx((2 * 0.2 + 2 * 0.2) / 4, abs=1e-12)
    assert found.brier == pytest.approx((0.01 + 0.09 + 0.16 + 0.64) / 4, abs=1e-12)


def test_bins_are_weighted_by_their_rows() -> None:
    found = of([0.0, 0.0, 0.0, 1.0], [0, 0, 1, 0])

    assert [(one.rows, one.mean, one.true) for one in found.bins] == [(3, 0, 1 / 3), (1, 1, 0)]
    assert found.error == pytest.approx((3 * 1 / 3 + 1 * 1) / 4, abs=1e-12)


def test_scores_that_keep_their_promise_have_no_error() -> None:
    found = of([0.25] * 4 + [0.75] * 4, [1, 0, 0, 0, 1, 1, 1, 0])

    assert (found.error, found.brier) == (0.0, 0.1875)


def test_different_scores_are_spread_evenly_over_fifteen_bins() -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0, 1, 152))

    found = reliability(scores, scores > 0.5)

    assert sorted({one.rows for one in found.bins}) == [10, 11]
    assert len(found.bins) == 15
    assert [one.lowest for one in found.bins] == sorted(one.lowest for one in found.bins)


def test_fewer_rows_than_bins_give_a_bin_each() -> None:
    assert [one.rows for one in of([0.2, 0.4, 0.9], [0, 1, 1]).bins] == [1, 1, 1]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=1),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_no_order_of_the_rows_changes_a_figure(rows, bins, random) -> None:
    moved = random.sample(rows, len(rows))

    found, again = (of(*map(list, zip(*one, strict=True)), bins) for one in (rows, moved))

    assert found == again
    assert sum(one.rows for one in found.bins) == len(rows)
    values = [score for one in found.bins for score in {one.lowest, one.highest}]
    assert len(values) == len(set(values))  # equal scores share a bin


@pytest.mark.parametrize("outside", [-0.5, 1.5])
def test_a_score_that_is_no_probability_has_a_curve_and_no_error(outside: float) -> None:
    found = of([0.5, outside], [0, 1])

    assert (found.error, found.brier, len(found.bins)) == (None, None, 2)


@pytest.mark.parametrize(
    ("scores", "labels", "bins"),
    [([], [], 15), ([0.5], [1, 0], 15), ([float("nan")], [1], 15), ([0.5], [1], 0)],
)
def test_what_has_no_reliability_is_refused(scores, labels, bins) -> None:
    with pytest.raises(ValueError, match=r"reliability needs|do not go together"):
        of(scores, labels, bins)


def test_the_figures_can_be_written_as_json() -> None:
    assert of([0.5, 1.0], [0, 1]).as_json() == {
        "rows": 2,
        "true": 1,
        "error": 0.25,
        "brier": 0.125,
        "bins": [
            {"rows": 1, "lowest": 0.5, "highest": 0.5, "mean": 0.5, "true": 0.0},
            {"rows": 1, "lowest": 1.0, "highest": 1.0, "mean": 1.0, "true": 1.0},
        ],
    }
