"""`stages.keep`: which rows stay, given one number for each."""

import json
import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from stages.keep import Keep, KeepAbove, KeepBudget, KeepQuantile, keep_highest, quantile

# Few distinct values, so that ties are common; scores are coarse.
values = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0]) | st.floats(-1e6, 1e6))


def kept(rule: KeepAbove | KeepQuantile | KeepBudget, given_values: list[float]) -> list[float]:
    cut = rule.cut(np.array(given_values, dtype=np.float64))
    return [value for value, stays in zip(given_values, cut.kept, strict=True) if stays]


@given(values)
def test_above_the_median_stands_what_is_above_the_mean_of_the_two_middle_values(
    given_values: list[float],
) -> None:
    # statistics.median averages the two middle values: where that rounds, compare the lower one.
    middle = statistics.median_low(given_values) if given_values else 0.0

    assert kept(KeepAbove(above="median"), given_values) == [v for v in given_values if v > middle]


@given(values, st.floats(-10, 10))
def test_above_a_number_stands_what_is_greater(given_values: list[float], threshold: float) -> None:
    found = kept(KeepAbove(above=threshold), given_values)

    assert found == [value for value in given_values if value > threshold]


@given(values.filter(bool), st.floats(0.001, 0.999))
def test_at_most_the_share_above_the_quantile_stays(given_values: list[float], q: float) -> None:
    cut = KeepQuantile(quantile=q).cut(np.array(given_values))

    assert cut.threshold in given_values
    assert cut.kept.sum() <= (1 - q) * len(given_values) + 1e-9
    assert sum(v <= cut.threshold for v in given_values) >= q * len(given_values) - 1e-9
    below = [v for v in given_values if v < cut.threshold]  # a lower threshold would not do
    assert len(below) < q * len(given_values) + 1e-9


@given(values, st.integers(1, 30))
def test_a_budget_keeps_exactly_the_highest_and_among_equals_the_first(
    given_values: list[float], budget: int
) -> None:
    cut = KeepBudget(budget=budget).cut(np.array(given_values, dtype=np.float64))

    ranked = sorted(range(len(given_values)), key=lambda place: (-given_values[place], place))
    assert np.flatnonzero(cut.kept).tolist() == sorted(ranked[:budget])


@pytest.mark.parametrize(
    ("q", "rank"), [(0.07, 7), (0.29, 29), (0.57, 57), (0.5, 50), (0.999, 100)]
)
def test_the_rank_of_a_quantile_is_exact_in_decimal(q: float, rank: int) -> None:
    # In binary 0.07 * 100 is 7.000000000000001, and would be rounded up to 8.
    assert quantile(np.arange(1.0, 101.0), q) == rank


def test_evidence_gives_value_and_threshold_and_counts_ties_at_it() -> None:
    rows = pl.LazyFrame({"id": list("abcd"), "c": [0.1, 0.5, 0.5, 0.9]})

    decided = keep_highest(rows, "c", KeepAbove(above="median"), reason="low").collect()

    assert [(i, v, r, json.loads(e)) for i, v, r, e in decided.rows()] == [
        ("a", "drop", "low", {"value": 0.1, "threshold": 0.5}),
        ("b", "drop", "low", {"value": 0.5, "threshold": 0.5, "ties": 2}),
        ("c", "drop", "low", {"value": 0.5, "threshold": 0.5, "ties": 2}),
        ("d", "keep", None, {"value": 0.9, "threshold": 0.5}),
    ]


def test_a_value_that_is_missing_fails_its_row_and_moves_no_threshold() -> None:
    rows = pl.LazyFrame({"id": list("abcd"), "c": [None, 1.0, float("nan"), 2.0]})

    decided = keep_highest(rows, "c", KeepAbove(above="median"), reason="low").collect()

    assert decided.select("verdict", "reason").rows() == [
        ("fail", "undecided"),
        ("drop", "low"),
        ("fail", "undecided"),
        ("keep", None),
    ]


@pytest.mark.parametrize("rule", [{"above": "median"}, {"quantile": 0.5}, {"budget": 3}])
def test_no_rows_give_no_verdicts(rule: dict[str, object]) -> None:
    keep = TypeAdapter(Keep).validate_python(rule)
    rows = pl.LazyFrame({"id": [], "c": []}, schema={"id": pl.String, "c": pl.Float64})

    assert keep_highest(rows, "c", keep, reason="low").collect().height == 0


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"abov": 1}, "a keep rule is one of {above: median}"),
        (0.5, "a keep rule is one of {above: median}"),
        ({"above": 1, "budget": 2}, "Extra inputs are not permitted"),
        ({"above": "mean"}, "Input should be 'median'"),
        ({"above": float("nan")}, "finite number"),
        ({"quantile": 1}, "less than 1"),
        ({"budget": 0}, "greater than or equal to 1"),
        ({"budget": True}, "valid integer"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: object, message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Keep).validate_python(rule)

    assert message in str(refused.value)
