"""The judge that explains: a verdict with reasons, and BSDetector's confidence in it.

Sources: Zheng et al. 2023, https://arxiv.org/abs/2306.05685 (explain, then A, B or C; both orders);
Chen & Mueller 2024, https://arxiv.org/abs/2308.16175 (confidence) and 2403.12776 (of a verdict).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel, Field

from stages.clear.confidence import LETTER_VALUES, combined, self_reflection
from stages.clear.outcomes import for_sound
from stages.context import Context
from stages.engines import Chat, Generator, Refused, Sampling
from stages.judging.judge import Judgement, Judging, Pair, Seat, grouped
from stages.judging.prompts import (
    EXPLAIN_AND_DECIDE,
    Turn,
    comparison,
    reflection,
    second_reflection,
)
from stages.judging.verdict import (
    Letter,
    Outcome,
    Reflection,
    Side,
    Verdict,
    agreed,
    mean,
    meant,
    share,
)
from stages.structured import structured

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Decided:
    """The greedy verdict on a pair in one order."""

    seat: Seat
    letter: Letter


@dataclass(frozen=True)
class Confidence:
    """value: 0-1. failures: sampled verdicts that could not be read."""

    value: float
    failures: int


class SampledJudging(Judging, frozen=True):
    """Verdicts with an explanation, greedy, each with the confidence c = 0.7 O + 0.3 S.

    O  the share of `samples` verdicts at `temperature` that are the same letter
    S  the mean of two choices whether the verdict is correct, the second after a doubting question:
       A (correct) = 1, B (incorrect) = 0, C (not sure) = 0.5

    The confidence of a side is that of the verdicts for it, averaged over the orders, and 0 where
    not all orders are for it: only what won is asked about. What cannot be read is asked for once
    more; a pair without a verdict, without any sample or without a reflection has no judgement.
    """

    judge: Literal["sampled"]
    samples: int = Field(default=5, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    consistency_weight: float = Field(default=0.7, ge=0, le=1)
    max_verdict_tokens: int = Field(default=256, ge=1)
    max_reflection_tokens: int = Field(default=128, ge=1)

    def capabilities(self) -> frozenset[str]:
        return frozenset({"generate"})

    def calls_per_pair(self) -> int:
        return (2 if self.orders == "both" else 1) * (1 + self.samples + 2)

    def judged(
        self, ctx: Context, model: str, pairs: Sequence[Pair], sides: Sequence[Side]
    ) -> list[Judgement | str]:
        engine = ctx.generator(model)
        seats = [seat for pair in pairs for seat in self.seats(pair)]
        decided = self._decided(engine, ctx.seed, seats)

        def weighed(sound: list[list[Decided]]) -> list[Judgement | str]:
            won = [orders for orders in sound if _outcome(orders) in sides]
            flat = [one for orders in won for one in orders]
            found = self._confidences(engine, ctx.seed, flat) if flat else []
            # Each pair that won, in order, takes its group; the others were not asked about.
            groups = iter(grouped(found, len(seats) // len(pairs)))
            return [
                _judgement(outcome, next(groups) if outcome in sides else [], sides)
                for outcome in map(_outcome, sound)
            ]

        return for_sound(grouped(decided, len(seats) // len(pairs)), weighed)

    def _decided(self, engine: Generator, seed: int, seats: Sequence[Seat]) -> list[Decided | str]:
        chats = [comparison(seat.pair.prompt, seat.answers, EXPLAIN_AND_DECIDE) for seat in seats]
        sampling = Sampling(max_tokens=self.max_verdict_tokens, seed=seed)
        replies = _replies(engine, "verdict", chats, Verdict, sampling, seats)
        return [
            one if isinstance(one, str) else Decided(seat, one[0].verdict)
            for seat, one in zip(seats, replies, strict=True)
        ]

    def _confidences(
        self, engine: Generator, seed: int, decided: Sequence[Decided]
    ) -> list[Confidence | str]:
        # Reflections first: on a pair without one, which is failed, no samples are spent.
        reflected = self._reflections(engine, seed, decided)
        both = [
            found if isinstance(found, str) else (one, found)
            for one, found in zip(decided, reflected, strict=True)
        ]
        return for_sound(both, lambda sound: self._observed(engine, seed, sound))

    def _observed(
        self, engine: Generator, seed: int, reflected: Sequence[tuple[Decided, float]]
    ) -> list[Confidence | str]:
        """The confidence of each verdict, whose S is known."""
        seats = [one.seat for one, _ in reflected]
        chats = [comparison(seat.pair.prompt, seat.answers, EXPLAIN_AND_DECIDE) for seat in seats]
        sampling = Sampling(self.max_verdict_tokens, self.samples, self.temperature, seed=seed)
        replies = _replies(engine, "verdict samples", chats, Verdict, sampling, seats)
        return [
            found
            if isinstance(found, str)
            else Confidence(
                combined(
                    share(one.letter, [reply.verdict for reply in found]),
                    value,
                    self.consistency_weight,
                ),
                self.samples - len(found),
            )
            for (one, value), found in zip(reflected, replies, strict=True)
        ]

    def _reflections(
        self, engine: Generator, seed: int, decided: Sequence[Decided]
    ) -> list[float | str]:
        """S of each verdict."""
        sampling = Sampling(max_tokens=self.max_reflection_tokens, seed=seed)
        chats = [reflection(one.seat.pair.prompt, one.seat.answers, one.letter) for one in decided]
        seats = [one.seat for one in decided]
        replies = _replies(engine, "reflection", chats, Reflection, sampling, seats)
        first = [
            found if isinstance(found, str) else (one, chat, found[0])
            for one, chat, found in zip(decided, chats, replies, strict=True)
        ]

        def doubted(sound: list[tuple[Decided, list[Turn], Reflection]]) -> list[float | str]:
            again = [
                second_reflection(chat, found.model_dump_json(), one.letter)
                for one, chat, found in sound
            ]
            seats = [one.seat for one, _, _ in sound]
            replies = _replies(engine, "second reflection", again, Reflection, sampling, seats)
            return [
                after
                if isinstance(after, str)
                else self_reflection(LETTER_VALUES[found.choice], LETTER_VALUES[after[0].choice])
                for (_, _, found), after in zip(sound, replies, strict=True)
            ]

        return for_sound(first, doubted)


def _replies(
    engine: Generator,
    purpose: str,
    chats: Sequence[Chat],
    schema: type[M],
    sampling: Sampling,
    seats: Sequence[Seat],
) -> list[list[M] | str]:
    """The samples that could be read, at least one of each chat; else why there is none."""
    keys = [seat.noise_key(purpose) for seat in seats]
    return [
        f"{purpose}: {found.reason}" if isinstance(found, Refused) else _read(found, purpose)
        for found in structured(engine, chats, schema, sampling, keys)
    ]


def _read(found: Sequence[M | str], purpose: str) -> list[M] | str:
    sound = [one for one in found if not isinstance(one, str)]
    return sound or f"{purpose}: {found[0]}"


def _outcome(orders: Sequence[Decided]) -> Outcome:
    return agreed([meant(one.letter, swapped=one.seat.swapped) for one in orders])


def _judgement(
    outcome: Outcome, found: Sequence[Confidence] | str, sides: Sequence[Side]
) -> Judgement | str:
    if isinstance(found, str):
        return found
    sure = mean([one.value for one in found]) if found else 0.0
    confidence = {side: sure if side == outcome else 0.0 for side in sides}
    return Judgement(outcome, confidence, sum(one.failures for one in found))
