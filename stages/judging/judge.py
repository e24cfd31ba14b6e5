"""Which of two answers is better, and how sure the judge is of it.

One judge for all who compare answers. There are two ways of asking, `sampled.py` and `expected.py`;
this file has what they share. A judge likes an answer for where it stands, so that with `orders:
both` each pair is put both ways round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, Field

from schemas.ids import digest
from stages.clear.parsing import stripped
from stages.context import Context
from stages.judging.verdict import SIDES, Outcome, Side

T = TypeVar("T")

_SWAPS: Final[Mapping[str, tuple[bool, ...]]] = {"both": (False, True), "single": (False,)}


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. `key` names the pair: it keys the sampling noise."""

    key: bytes
    prompt: Sequence[Mapping[str, str]]
    first: str
    second: str


@dataclass(frozen=True)
class Judgement:
    """What became of a pair.

    confidence  0-1 for each side that was asked about: how sure it is that this answer is better
    failures    sampled verdicts that could not be read, each asked for twice; they are left out
    """

    verdict: Outcome
    confidence: Mapping[Side, float]
    failures: int = 0


@dataclass(frozen=True)
class Seat:
    """A pair as it is put to the judge: `swapped`, answer A is the second one."""

    pair: Pair
    swapped: bool

    @property
    def answers(self) -> tuple[str, str]:
        """The answers as A and B."""
        pair = self.pair
        return (pair.second, pair.first) if self.swapped else (pair.first, pair.second)

    def noise_key(self, purpose: str) -> bytes:
        """Keys the noise of one request: other purposes and the other order get other noise."""
        return digest(self.pair.key.hex(), purpose, self.swapped)


class Judging(BaseModel, frozen=True):
    """How a judge is asked: the config that all ways have in common."""

    orders: Literal["both", "single"] = Field(
        default="both",
        description="'both' asks also with the answers swapped; both verdicts must agree.",
    )

    def capabilities(self) -> frozenset[str]:
        """What the judge must be able to do, of `stages.engines.CAPABILITIES`."""
        raise NotImplementedError

    def calls_per_pair(self) -> int:
        """Requests that one pair costs at most."""
        raise NotImplementedError

    def compare(
        self, ctx: Context, model: str, pairs: Sequence[Pair], sides: Sequence[Side] = SIDES
    ) -> list[Judgement | str]:
        """A judgement for each pair, in order, or why there is none.

        sides: whose confidence is wanted. Equal answers (after the stripping of
        `stages.clear.parsing.stripped`) cost nothing: their verdict is `same`, with confidence 0.
        """
        same = [stripped(pair.first) == stripped(pair.second) for pair in pairs]
        asked = [pair for pair, equal in zip(pairs, same, strict=True) if not equal]
        found = iter(self.judged(ctx, model, asked, sides) if asked else ())
        return [
            Judgement("same", dict.fromkeys(sides, 0.0)) if equal else next(found) for equal in same
        ]

    def judged(
        self, ctx: Context, model: str, pairs: Sequence[Pair], sides: Sequence[Side]
    ) -> list[Judgement | str]:
        """As `compare`, for pairs whose answers differ. At least one is given."""
        raise NotImplementedError

    def seats(self, pair: Pair) -> list[Seat]:
        """The orders in which the pair is put."""
        return [Seat(pair, swapped) for swapped in _SWAPS[self.orders]]


def grouped(outcomes: Sequence[T | str], size: int) -> list[list[T] | str]:
    """Outcomes of seats, `size` for each pair, by pair: all values, or the first reason."""
    groups = [outcomes[at : at + size] for at in range(0, len(outcomes), size)]
    return [_whole(group) for group in groups]


def _whole(group: Sequence[T | str]) -> list[T] | str:
    values: list[T] = []
    for one in group:
        if isinstance(one, str):
            return one
        values.append(one)
    return values
