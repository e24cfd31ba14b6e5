"""The judge that writes nothing: how probable is each letter? For models too small to explain."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from stages.context import Context
from stages.engines import Refused
from stages.judging.judge import Judgement, Judging, Pair, Seat, grouped
from stages.judging.prompts import DECIDE, comparison
from stages.judging.verdict import LETTERS, Side, agreed, letter_of_side, mean, meant

Probabilities = npt.NDArray[np.float32]


class ExpectedJudging(Judging, frozen=True):
    """The confidence of a side: the probability of its letter, averaged over the orders.

    The verdict of an order is its most probable letter. One forward pass for each order. The
    confidence is the mean also where the orders disagree, and can then be up to 0.75: who needs
    them to agree looks at the verdict too. Ours.
    """

    judge: Literal["expected"]

    def capabilities(self) -> frozenset[str]:
        return frozenset({"choose"})

    def calls_per_pair(self) -> int:
        return 2 if self.orders == "both" else 1

    def judged(
        self, ctx: Context, model: str, pairs: Sequence[Pair], sides: Sequence[Side]
    ) -> list[Judgement | str]:
        seats = [seat for pair in pairs for seat in self.seats(pair)]
        chats = [comparison(seat.pair.prompt, seat.answers, DECIDE) for seat in seats]
        found = [
            f"verdict: {one.reason}" if isinstance(one, Refused) else (seat, one)
            for seat, one in zip(seats, ctx.chooser(model).choose(chats, LETTERS), strict=True)
        ]
        return [
            one if isinstance(one, str) else _judgement(one, sides)
            for one in grouped(found, len(seats) // len(pairs))
        ]


def _judgement(orders: Sequence[tuple[Seat, Probabilities]], sides: Sequence[Side]) -> Judgement:
    outcomes = [
        meant(LETTERS[int(np.argmax(found))], swapped=seat.swapped) for seat, found in orders
    ]
    confidence = {
        side: mean(
            [
                float(found[LETTERS.index(letter_of_side(side, swapped=seat.swapped))])
                for seat, found in orders
            ]
        )
        for side in sides
    }
    return Judgement(agreed(outcomes), confidence)
