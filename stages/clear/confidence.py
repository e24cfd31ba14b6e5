"""The formulas of confidence, as pure functions of numbers. No default stands in for a missing one.

O  observed consistency, 0-1      S  self-reflection, 0-1      c  confidence

Source: Chen & Mueller 2024, BSDetector, https://arxiv.org/abs/2308.16175 (O, S, c); `likelihood` is
ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from stages.clear.parsing import Letter

LETTER_VALUES: Final[Mapping[Letter, float]] = {"A": 1.0, "B": 0.0, "C": 0.5}


class NoConfidence(ValueError):
    """The numbers of a row do not determine a confidence; the message says why."""


def similarity(contradicts: float, contradicted: float) -> float:
    """s_i: how little two texts contradict each other. p_contra in both directions, 0-1."""
    return 0.5 * ((1 - contradicts) + (1 - contradicted))


def observed_consistency(
    similarities: Sequence[float], equal: Sequence[bool], similarity_weight: float
) -> float:
    """O: the mean over samples of `similarity_weight` * s_i + (1 - `similarity_weight`) * r_i."""
    if not similarities:
        raise NoConfidence("there is no sampled answer to compare with")
    terms = [
        similarity_weight * near + (1 - similarity_weight) * same
        for near, same in zip(similarities, equal, strict=True)
    ]
    return math.fsum(terms) / len(terms)


def expected_value(probabilities: Sequence[float]) -> float:
    """A reflection's value under the probabilities of the letters A, B and C."""
    return math.fsum(
        probability * value
        for probability, value in zip(probabilities, LETTER_VALUES.values(), strict=True)
    )


def self_reflection(first: float, second: float) -> float:
    """S: the mean of the two reflections."""
    return (first + second) / 2


def combined(consistency: float, reflection: float, consistency_weight: float) -> float:
    """Confidence c = `consistency_weight` * O + (1 - `consistency_weight`) * S."""
    return consistency_weight * consistency + (1 - consistency_weight) * reflection


def prompt_benefit(log_prob: float, log_prob_empty: float) -> float:
    """1 - log_prob / log_prob_empty, the mean log-probabilities with and without the prompt.

    0 where the prompt does not help to predict the answer, below where it hurts, at most 1.
    """
    if not (math.isfinite(log_prob) and math.isfinite(log_prob_empty)):
        raise NoConfidence(f"log-probabilities are not finite: {log_prob}, {log_prob_empty}")
    if log_prob_empty == 0:
        raise NoConfidence("the answer is certain without its prompt (log-probability 0)")
    ratio = log_prob / log_prob_empty
    if not math.isfinite(ratio):
        raise NoConfidence(f"the ratio of {log_prob} and {log_prob_empty} is not finite")
    return 1 - ratio
