import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipelines.audit.figures import (
    Estimate,
    Seen,
    Threshold,
    auroc,
    catch,
    shortest,
    threshold_for,
    written,
)

NONE = np.empty(0)
few_values = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 0.5, 3.0]), min_size=1, max_size=30)


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float64)


def drops(dropped: int, rows: int) -> np.ndarray:
    return np.arange(rows) < dropped


@given(few_values, few_values)
def test_the_auroc_is_that_of_scikit_learn(clean: list[float], bad: list[float]) -> None:
    good = [1] * len(clean) + [0] * len(bad)

    assert auroc(np.array(clean), np.array(bad)) == pytest.approx(
        roc_auc_score(good, [*clean, *bad]), abs=1e-12
    )


def test_the_auroc_counts_a_tie_as_half() -> None:
    # Of the pairs (1, 2), (1, 3), (2, 2), (2, 3), bad first: won, won, half, won.
    assert auroc(values(2, 3), values(1, 2)) == 3.5 / 4


@pytest.mark.parametrize(
    ("precision", "found"),
    [
        # Sorted: bad 1, bad 2, clean 3, bad 4, clean 5, clean 6.
        (0.9, Threshold(2.0, 1.0, 2 / 3, 0.0)),
        (0.75, Threshold(4.0, 0.75, 1.0, 1 / 3)),
        (0.5, Threshold(4.0, 0.75, 1.0, 1 / 3)),
    ],
)
def test_the_threshold_catches_the_most_with_the_precision_that_is_wanted(
    precision: float, found: Threshold
) -> None:
    assert threshold_for(values(3, 5, 6), values(1, 2, 4), precision) == found


def test_rows_with_one_value_are_dropped_together() -> None:
    assert threshold_for(values(1, 2), values(1, 1, 1), 0.75) == Threshold(1.0, 0.75, 1.0, 0.5)
    assert threshold_for(values(1, 2), values(1, 1, 1), 0.8) is None


def test_there_may_be_no_threshold() -> None:
    assert threshold_for(values(1, 2), values(3, 4), 0.9) is None


def test_a_threshold_above_all_values_is_the_highest() -> None:
    found = threshold_for(values(2), values(1, 3), 0.6)

    assert found == Threshold(3.0, 2 / 3, 1.0, 1.0)


def test_a_threshold_of_saturated_scores_is_pasted_as_it_is_printed() -> None:
    clean, bad = values(0.9998, 0.99997), values(0.5, 0.9993, 0.99955)

    found = threshold_for(clean, bad, 0.9)

    assert found == Threshold(0.9997, 1.0, 1.0, 0.0)
    pasted = float(written(found.value))
    assert ((bad <= pasted).sum(), (clean <= pasted).sum()) == (3, 0)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.99955, 0.9998, 0.9997),
        (0.95, 1.5, 1.0),
        (1.0, 2.0, 1.0),
        (2.0, 3.0, 2.0),
        (-0.3, 0.2, 0.0),
        (-0.0181, -0.0023, -0.01),
        (1234.25, 1234.75, 1234.5),
        (1.5e-7, 2.5e-7, 2e-7),
        (0.1, 0.1 + 2**-55, 0.1),
    ],
)
def test_the_shortest_number_that_separates(low: float, high: float, found: float) -> None:
    assert shortest(low, high) == found
    assert str(shortest(low, high)) != "-0.0"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_shortest_number_separates_any_two(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        assert low <= float(written(shortest(low, high))) < high


def test_a_number_is_written_without_an_exponent() -> None:
    assert [written(one) for one in (2e-7, -0.0023, 1.0, 100.0, 0.0)] == [
        *("0.0000002", "-0.0023", "1", "100", "0")
    ]


@given(few_values, few_values, st.floats(0.05, 1))
def test_what_a_threshold_promises_holds(clean, bad, precision: float) -> None:
    found = threshold_for(np.array(clean), np.array(bad), precision)

    if found is None:
        return
    caught = sum(one <= found.value for one in bad)
    lost = sum(one <= found.value for one in clean)
    assert found == Threshold(
        found.value, caught / (caught + lost), caught / len(bad), lost / len(clean)
    )
    assert found.precision >= precision


def test_the_figures_of_a_stage_with_a_score() -> None:
    clean = Seen(drops(1, 4), values(0.1, 0.5, 0.6, 0.7))
    bad = Seen(drops(2, 3), values(0.0, 0.2, 0.55))

    found = catch(clean, bad, np.random.default_rng(0), 0.9)

    assert (found.clean, found.bad) == (4, 3)
    assert found.auroc is not None
    assert found.auroc.value == (4 + 3 + 2) / 12
    assert found.recall.value == 2 / 3
    assert found.precision.value == 2 / 3
    assert found.clean_lost.value == 1 / 4
    assert found.threshold == Threshold(0.0, 1.0, 1 / 3, 0.0)


def test_a_stage_without_a_score_has_neither_auroc_nor_threshold() -> None:
    found = catch(Seen(drops(0, 4), NONE), Seen(drops(3, 3), NONE), np.random.default_rng(0), 0.9)

    assert (found.auroc, found.threshold) == (None, None)
    assert found.recall == Estimate(1.0, 1.0, 1.0)
    assert found.precision == Estimate(1.0, 1.0, 1.0)


def test_a_stage_that_drops_nothing_has_no_precision() -> None:
    found = catch(Seen(drops(0, 4), NONE), Seen(drops(0, 3), NONE), np.random.default_rng(0), 0.9)

    assert found.precision == Estimate(None)
    assert found.recall == Estimate(0.0, 0.0, 0.0)


def test_where_all_rows_of_a_sort_have_failed_nothing_is_known() -> None:
    found = catch(Seen(drops(2, 4), NONE), Seen(drops(0, 0), NONE), np.random.default_rng(0), 0.9)

    assert (found.clean, found.bad, found.recall, found.clean_lost) == (
        4,
        0,
        Estimate(None),
        Estimate(None),
    )


def test_intervals_of_shares_are_those_of_the_binomial_distribution() -> None:
    found = catch(
        Seen(drops(100, 1000), NONE), Seen(drops(50, 100), NONE), np.random.default_rng(1), 0.9
    )

    # 0.5 -+ 1.96 * sqrt(0.25 / 100), 0.1 -+ 1.96 * sqrt(0.09 / 1000)
    assert (found.recall.low, found.recall.high) == pytest.approx((0.402, 0.598), abs=0.015)
    assert (found.clean_lost.low, found.clean_lost.high) == pytest.approx(
        (0.0814, 0.1186), abs=0.004
    )


def test_the_interval_of_an_auroc_is_that_of_hanley_and_mcneil() -> None:
    rng = np.random.default_rng(2)
    clean, bad = rng.normal(1, 1, 400), rng.normal(0, 1, 60)

    found = catch(Seen(drops(0, 400), clean), Seen(drops(0, 60), bad), rng, 0.9).auroc

    # Their standard error at 0.76 with 60 and 400 rows is 0.036.
    assert found is not None
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(0.036, abs=0.006)
    assert found.low < found.value < found.high


def test_the_same_generator_gives_the_same_intervals() -> None:
    clean, bad = Seen(drops(3, 40), NONE), Seen(drops(7, 9), NONE)

    first, again = (catch(clean, bad, np.random.default_rng(3), 0.9) for _ in range(2))

    assert first == again
