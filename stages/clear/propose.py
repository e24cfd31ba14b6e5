"""`clear.propose`: see ClearPropose."""

from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from schemas.rows import RowType
from stages.base import Stage
from stages.clear.outcomes import Record, for_sound, score_table
from stages.clear.target import Target, target_of
from stages.context import Context
from stages.engines import Completion, Need, Refused, Sampling


class ClearPropose(Stage, frozen=True):
    """Let a model write an answer of its own for every row, for `clear.judge` to compare.

    `candidate`: the greedy answer to the turns before the last assistant turn, without whitespace
    around it; `tokens`: how many it has; `finished`: false where it was cut at `max_tokens`. Every
    row is kept. A row whose prompt is too long fails, and one for which the model writes nothing.
    The model is not told of tools that a row declares; `clear.correct` revises no such row.

    Cost: one generation a row.

    Source: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776, where the model is the base model
    fine-tuned on the rows that `clear.filter` has not flagged.
    """

    kind: Literal["clear.propose"] = "clear.propose"
    model: str = Field(description="The model of the recipe that answers: the fine-tuned model.")
    max_tokens: int = Field(default=512, ge=1)
    chunk_rows: int = Field(default=64, ge=1)

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    model_roles: ClassVar[frozenset[str]] = frozenset({"model"})

    def needs(self) -> tuple[Need, ...]:
        return (Need(self.model, frozenset({"generate"}), calls=1),)

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field("candidate", pa.string()),
                pa.field("tokens", pa.int32()),
                pa.field("finished", pa.bool_()),
            ]
        )

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        pairs = zip(rows["key"].to_pylist(), rows["messages"].to_pylist(), strict=True)
        targets = [target_of(key, messages) for key, messages in pairs]
        return score_table(
            self.scores(), for_sound(targets, lambda found: self._proposed(found, ctx))
        )

    def _proposed(self, targets: list[Target], ctx: Context) -> list[Record | str]:
        found = ctx.generator(self.model).generate(
            [target.prompt for target in targets],
            Sampling(max_tokens=self.max_tokens, seed=ctx.seed),
            [target.key for target in targets],
        )
        return [one.reason if isinstance(one, Refused) else _record(one[0]) for one in found]


def _record(written: Completion) -> Record | str:
    candidate = written.text.strip()
    if not candidate:
        return "the model wrote nothing"
    return {"candidate": candidate, "tokens": written.tokens, "finished": written.finished}
