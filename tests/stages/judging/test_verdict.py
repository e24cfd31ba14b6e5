"""`stages.judging.verdict`: letters, sides and orders, every case."""

import pytest

from stages.judging.verdict import agreed, letter_of_side, mean, meant, share


@pytest.mark.parametrize(
    ("letter", "swapped", "outcome"),
    [
        ("A", False, "first"),
        ("B", False, "second"),
        ("C", False, "tie"),
        ("A", True, "second"),
        ("B", True, "first"),
        ("C", True, "tie"),
    ],
)
def test_a_letter_means_another_answer_in_the_other_order(letter, swapped, outcome) -> None:
    assert meant(letter, swapped=swapped) == outcome


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("side", ["first", "second"])
def test_the_letter_of_a_side_means_that_side(side, swapped) -> None:
    assert meant(letter_of_side(side, swapped=swapped), swapped=swapped) == side


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["first"], "first"),
        (["second"], "second"),
        (["tie"], "tie"),
        (["first", "first"], "first"),
        (["second", "second"], "second"),
        (["tie", "tie"], "tie"),
        (["first", "second"], "split"),
        (["second", "first"], "split"),
        (["first", "tie"], "split"),
        (["tie", "first"], "split"),
        (["second", "tie"], "split"),
        (["tie", "second"], "split"),
    ],
)
def test_all_orders_must_agree(outcomes, verdict) -> None:
    assert agreed(outcomes) == verdict


@pytest.mark.parametrize(
    ("letter", "sampled", "expected"),
    [("A", ["A"], 1.0), ("A", ["B", "C"], 0.0), ("B", ["B", "A", "B", "C"], 0.5)],
)
def test_consistency_of_a_verdict_is_the_share_of_the_same_letter(
    letter, sampled, expected
) -> None:
    assert share(letter, sampled) == expected


def test_the_mean_over_the_orders() -> None:
    assert mean([0.1, 0.2]) == pytest.approx(0.15, abs=1e-12)
