"""`stages.clear.confidence`: the formulas, against figures computed by hand."""

import math

import pytest

from stages.clear.confidence import (
    NoConfidence,
    combined,
    expected_value,
    observed_consistency,
    prompt_benefit,
    self_reflection,
    similarity,
)


def test_similarity_is_the_mean_over_both_directions() -> None:
    assert similarity(0.2, 0.4) == pytest.approx(0.7, abs=1e-12)  # (0.8 + 0.6) / 2


def test_consistency_weighs_similarity_and_equality() -> None:
    # (0.8 * 0.7 + 0.2 * 0 + 0.8 * 1 + 0.2 * 1) / 2
    assert observed_consistency([0.7, 1.0], [False, True], 0.8) == pytest.approx(0.78, abs=1e-12)


def test_consistency_with_no_sample_is_no_number() -> None:
    with pytest.raises(NoConfidence):
        observed_consistency([], [], 0.8)


def test_a_reflection_expects_a_as_one_b_as_nothing_and_c_as_half() -> None:
    assert expected_value([0.5, 0.3, 0.2]) == pytest.approx(0.6, abs=1e-12)


def test_confidence_is_seven_parts_consistency_and_three_parts_reflection() -> None:
    # 0.7 * 0.78 + 0.3 * 0.75
    assert combined(0.78, self_reflection(1.0, 0.5), 0.7) == pytest.approx(0.771, abs=1e-12)


@pytest.mark.parametrize(
    ("given", "empty", "benefit"), [(-1, -4, 0.75), (-4, -4, 0), (-6, -4, -0.5)]
)
def test_the_benefit_of_a_prompt(given: float, empty: float, benefit: float) -> None:
    assert prompt_benefit(given, empty) == benefit


@pytest.mark.parametrize(
    ("given", "empty"),
    [(-1.0, 0.0), (-math.inf, -1.0), (-1.0, -math.inf), (math.nan, -1.0), (-1e308, -1e-308)],
)
def test_a_benefit_that_is_not_determined_is_refused(given: float, empty: float) -> None:
    with pytest.raises(NoConfidence):
        prompt_benefit(given, empty)
