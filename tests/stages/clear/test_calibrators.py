"""Isotonic regression, Platt scaling and folds, against values by hand and what defines them."""

import numpy as np
import pytest

from stages.clear.calibrators import FITS, fold_numbers, isotonic, out_of_fold, platt


def drawn(rows: int, seed: int = 0):
    """Scores and labels of which the score says log odds 6 s - 2."""
    random = np.random.default_rng(seed)
    scores = random.random(rows)
    return scores, random.random(rows) < 1 / (1 + np.exp(2 - 6 * scores))


def test_isotonic_pools_neighbours_that_fall_and_is_straight_between_steps() -> None:
    scores = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    labels = np.array([False, True, False, True, True])

    calibrated = isotonic(scores, labels)(np.array([-9, 0, 0.5, 1, 2, 2.5, 3, 9]))

    assert calibrated.tolist() == [0, 0, 0.25, 0.5, 0.5, 0.75, 1, 1]


def test_isotonic_takes_the_share_of_true_labels_where_scores_are_equal() -> None:
    scores = np.repeat([0.0, 1.0], 4)
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 0], bool)

    assert isotonic(scores, labels)(np.array([0.0, 1.0])).tolist() == [0.25, 0.75]


def test_platt_is_at_the_maximum_of_its_likelihood() -> None:
    scores, labels = drawn(300)

    p = platt(scores, labels)(scores)

    true = labels.sum()
    target = np.where(labels, (true + 1) / (true + 2), 1 / (len(labels) - true + 2))
    # Both derivatives of the likelihood, by b and by a, are zero.
    assert np.mean(p - target) == pytest.approx(0, abs=1e-6)
    assert np.mean((p - target) * scores) == pytest.approx(0, abs=1e-6)
    log_odds = np.log(p / (1 - p))
    slope, offset = np.polyfit(scores, log_odds, 1)
    assert np.allclose(slope * scores + offset, log_odds, atol=1e-9)


def test_platt_finds_the_odds_that_labels_were_drawn_from() -> None:
    calibrated = platt(*drawn(20_000))(np.array([0.0, 0.5, 1.0]))

    assert calibrated == pytest.approx(1 / (1 + np.exp([2, -1, -4])), abs=0.01)


def test_platt_is_never_certain_of_what_was_told_apart_without_a_mistake() -> None:
    scores = np.array([0.0] * 20 + [1.0] * 20)

    p = platt(scores, scores > 0.5)(np.array([0.0, 1.0]))

    assert p == pytest.approx([1 / 22, 21 / 22], abs=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, -3e6)])
def test_platt_does_not_depend_on_the_unit_of_the_score(scale: float, shift: float) -> None:
    scores, labels = drawn(200)

    moved = platt(scores * scale + shift, labels)(scores * scale + shift)

    assert moved == pytest.approx(platt(scores, labels)(scores), abs=1e-6)


@pytest.mark.parametrize("method", FITS)
def test_scores_that_are_all_equal_get_the_share_of_true_labels(method) -> None:
    labels = np.array([True, False] * 20)

    calibrated = FITS[method](np.full(40, 0.7), labels)(np.array([0.5, 0.7, 0.9]))

    assert calibrated == pytest.approx([0.5] * 3, abs=1e-9)


@pytest.mark.parametrize("method", FITS)
def test_calibrated_scores_rise_with_the_score_and_are_probabilities(method) -> None:
    calibrated = FITS[method](*drawn(200))(np.linspace(-1, 2, 301))

    assert (np.diff(calibrated) >= 0).all()
    assert calibrated.min() >= 0
    assert calibrated.max() <= 1


def test_each_label_is_spread_evenly_over_the_folds() -> None:
    labels = np.array([True] * 12 + [False] * 33)

    numbers = fold_numbers(labels, folds=5, seed=3)

    assert sorted(np.bincount(numbers[labels])) == [2, 2, 2, 3, 3]
    assert sorted(np.bincount(numbers[~labels])) == [6, 6, 7, 7, 7]


def test_the_seed_settles_the_folds() -> None:
    labels = np.array([True, False] * 30)

    one, again, other = (fold_numbers(labels, 5, seed).tolist() for seed in (1, 1, 2))

    assert one == again
    assert one != other


def test_no_row_is_calibrated_by_one_that_has_seen_it() -> None:
    scores, labels = np.arange(40.0), np.array([True, False] * 20)
    fits = []

    def remembering(seen, _):
        fits.append(len(seen))
        return lambda asked: np.isin(asked, seen).astype(float)

    found = out_of_fold(remembering, scores, labels, folds=5, seed=0)

    assert fits == [32] * 5
    assert found.tolist() == [0.0] * 40


@pytest.mark.parametrize("method", FITS)
def test_two_rows_of_each_label_are_enough_for_every_fold(method) -> None:
    found = out_of_fold(
        FITS[method], np.arange(4.0), np.array([False, False, True, True]), folds=5, seed=0
    )

    assert np.isfinite(found).all()
