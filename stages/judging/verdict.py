"""Verdicts about two answers, and how several of them make one: pure functions.

The judge sees the answers as A and B. Which of them is `first` and which `second` is a matter of
the order in which they were put: swapped, A is the second.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from pydantic import BaseModel, Field

Letter = Literal["A", "B", "C"]
Side = Literal["first", "second"]
# tie: equally good. split: the two orders disagree. same: equal texts, nobody was asked.
Outcome = Literal["first", "second", "tie", "split", "same"]

LETTERS: Final[tuple[Letter, ...]] = ("A", "B", "C")
SIDES: Final[tuple[Side, ...]] = ("first", "second")

_MEANT: Final[Mapping[tuple[Letter, bool], Outcome]] = {
    ("A", False): "first",
    ("B", False): "second",
    ("C", False): "tie",
    ("A", True): "second",
    ("B", True): "first",
    ("C", True): "tie",
}


class Verdict(BaseModel, frozen=True, extra="forbid"):
    """What a judge replies to a comparison."""

    explanation: str
    verdict: Letter = Field(description="A: answer A is better. B: answer B is. C: neither.")


class Reflection(BaseModel, frozen=True, extra="forbid"):
    """What a judge replies when asked whether a verdict is correct."""

    explanation: str
    choice: Letter = Field(description="A: correct. B: incorrect. C: not sure.")


def meant(letter: Letter, *, swapped: bool) -> Outcome:
    """Which answer a letter prefers: first, second, or tie for C."""
    return _MEANT[letter, swapped]


def letter_of_side(side: Side, *, swapped: bool) -> Letter:
    """The letter that an answer goes by."""
    return "A" if (side == "first") != swapped else "B"


def agreed(outcomes: Sequence[Outcome]) -> Outcome:
    """What all orders say, or `split` where they do not say the same. At least one is given."""
    return outcomes[0] if len(set(outcomes)) == 1 else "split"


def share(letter: Letter, sampled: Sequence[Letter]) -> float:
    """O of a verdict: the share, 0-1, of sampled verdicts that are the same. At least one is given.

    BSDetector's observed consistency where an answer is a letter: similarity is equality.
    """
    return sampled.count(letter) / len(sampled)


def mean(values: Sequence[float]) -> float:
    """Of what the orders gave. At least one is given."""
    return math.fsum(values) / len(values)
