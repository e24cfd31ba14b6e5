"""`clear.judge`: Judge a proposed answer against the one that the data has.

One kind, two configs, told apart by `judge`:

    {kind: clear.judge, model: base, judge: sampled}    explained verdicts; for able models
    {kind: clear.judge, model: base, judge: expected}   probabilities of the letters; for small ones
"""

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import pyarrow as pa
from pydantic import Discriminator, Field, Tag

from schemas.rows import RowType
from stages.base import Stage
from stages.clear.outcomes import Record, for_sound, score_table
from stages.clear.target import target_of
from stages.context import Context
from stages.engines import Need
from stages.judging.expected import ExpectedJudging
from stages.judging.judge import Judgement, Judging, Pair
from stages.judging.sampled import SampledJudging


class ClearJudge(Judging, Stage, frozen=True):
    """What both ways of judging have in common."""

    kind: Literal["clear.judge"] = "clear.judge"
    model: str = Field(description="The model of the recipe that judges: the base model.")
    proposals: str = Field(
        default="clear.propose", description="The stage whose `candidate` is judged."
    )
    chunk_rows: int = Field(default=64, ge=1)

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    model_roles: ClassVar[frozenset[str]] = frozenset({"model"})
    # A row is bad where another answer is better.
    quality: ClassVar[str] = "p"
    less_is_worse: ClassVar[bool] = False

    def needs(self) -> tuple[Need, ...]:
        return (Need(self.model, self.capabilities(), calls=self.calls_per_pair()),)

    def reads(self) -> tuple[str, ...]:
        return ("messages", f"{self.proposals}.candidate")

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field("p", pa.float64()),
                pa.field("verdict", pa.string()),
                pa.field("failures", pa.int32()),
            ]
        )

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        columns = ("key", *self.reads())
        pairs = [_pair(*row) for row in zip(*(rows[n].to_pylist() for n in columns), strict=True)]

        def judged(sound: list[Pair]) -> list[Record | str]:
            found = self.compare(ctx, self.model, sound, sides=("second",))
            return [_record(one) if isinstance(one, Judgement) else one for one in found]

        return score_table(self.scores(), for_sound(pairs, judged))


class SampledClearJudge(SampledJudging, ClearJudge, frozen=True):
    """Judge the answer that `clear.propose` gave (y') against the row's own (y), with reasons.

    `verdict`: second (y' is better), first, tie, split (the two orders disagree) or same (equal
    texts, which cost nothing). `p`, 0-1: the confidence that y' is better, 0 where the verdict is
    another. `failures`: sampled verdicts that could not be read, each asked for twice.

    p = 0.7 O + 0.3 S, averaged over the orders: O is the share of `samples` verdicts at
    `temperature` that are the greedy one, S the mean of two choices whether it is correct (A = 1,
    B = 0, C, not sure, = 0.5), the second after a doubting question. Every row is kept; one whose
    verdict or reflection cannot be read, asked twice, fails. The judge is not told of tools that a
    row declares.

    Cost per row: a generation for each order and, where y' has won both, `samples` + 2 more for
    each. A model of 135 million parameters is too small: it writes no verdict that can be read.

    Source: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776, which puts each pair in one order
    (`orders: single`); the confidence is https://arxiv.org/abs/2308.16175.
    """


class ExpectedClearJudge(ExpectedJudging, ClearJudge, frozen=True):
    """Judge the answer that `clear.propose` gave (y') against the row's own (y), without a word.

    `p`, 0-1: the probability of the letter for y', averaged over the orders, also where they
    disagree: 0.95 and 0.45 give 0.7. `verdict`: second (y' is the most probable in every order),
    first, tie, split or same (equal texts, which cost nothing, p = 0); `clear.correct` asks for
    `second` beside p. `failures` is 0. Every row is kept; one that is too long for the model fails.
    The judge is not told of tools that a row declares.

    Cost per row: one forward pass for each order. A model of 135 million parameters follows the
    order alone: it was split about 30 of 30 rows of Dolly, p from 0.40 to 0.47. Ours.
    """


def _pair(key: bytes, messages: Any, candidate: str) -> Pair | str:
    target = target_of(key, messages)
    if isinstance(target, str):
        return target
    return Pair(key, target.prompt, target.answer, candidate)


def _record(found: Judgement) -> Record:
    return {
        "p": found.confidence["second"],
        "verdict": found.verdict,
        "failures": found.failures,
    }


def _which(given: Any) -> str | None:
    return given.get("judge") if isinstance(given, dict) else given.judge


AnyClearJudge: TypeAlias = Annotated[
    Annotated[SampledClearJudge, Tag("sampled")] | Annotated[ExpectedClearJudge, Tag("expected")],
    Discriminator(
        _which,
        custom_error_type="judge",
        custom_error_message="clear.judge needs 'judge: sampled' or 'judge: expected'",
    ),
]
