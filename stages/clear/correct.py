"""`clear.correct`: see ClearCorrect."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

import polars as pl
import pyarrow as pa
from pydantic import Field

from schemas.rows import MESSAGE, MESSAGES, RowType
from stages.base import FLAGGED, Stage
from stages.clear.decision_table import Action, correction
from stages.context import Context
from stages.verdicts import as_json, verdict

REVISED: Final = "revised"
LOW_CONFIDENCE: Final = "low_confidence"

_REASONS: Final[Mapping[Action, str]] = {"revise": REVISED, "drop": LOW_CONFIDENCE}
_KEPT: Final[Mapping[Action, bool]] = {"revise": False, "drop": False, "keep": True}


class ClearCorrect(Stage, frozen=True):
    """Put the proposed answer in the place of a row's own where a judge is sure that it is better.

    | p > `eta` | flagged by `filter` | what becomes of the row |
    |---|---|---|
    | yes | any | drop, reason `revised`; a new row has the candidate as its answer |
    | no | no | keep |
    | no | yes | drop, reason `low_confidence` |

    The new row, whose parent is the row, has its turns up to the last one of the assistant, which
    is replaced; turns after it, which replied to the old answer, are left out, and so is a `label`,
    which rated that. Some candidates are never put into the data, however high p is; such a row is
    kept or dropped, and its evidence says why in `not_revised`:

    candidate_cut       it was cut at `max_tokens` of `clear.propose`
    answer_calls_tools  the row's answer calls tools, and a candidate is text alone
    row_declares_tools  neither who proposed nor who judged was told of the row's tools
    judged_split        the judge's verdict was not for it in all orders that it was asked in, as
                        can be with `judge: expected`, whose p is a mean (also `judged_first`,
                        `judged_tie`, with an eta below 0.5)

    Evidence: p, eta, flagged. Before it stand `clear.filter` with `on_drop: flag`, `clear.propose`
    and `clear.judge`, which have failed already the rows that they could not score.

    Source: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776; `eta` is theirs.
    """

    kind: Literal["clear.correct"] = "clear.correct"
    eta: float = Field(default=0.8, ge=0, lt=1, description="p must be greater for a revision.")
    filter: str = Field(default="clear.filter", description="The stage that flags, on_drop: flag.")
    proposals: str = Field(default="clear.propose", description="The stage that has proposed.")
    judge: str = Field(default="clear.judge", description="The stage that has judged.")

    version: ClassVar[int] = 2
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    decide_only: ClassVar[frozenset[str]] = frozenset({"eta", "filter", "judge"})

    def reads(self) -> tuple[str, ...]:
        return ("messages", "tools", f"{self.proposals}.candidate")

    def consults(self) -> tuple[str, ...]:
        return (
            f"{self.judge}.p",
            f"{self.judge}.verdict",
            f"{self.proposals}.finished",
            f"{self.filter}.{FLAGGED}",
        )

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        judged, preferred, finished, flags = map(pl.col, self.consults())
        frame = rows.select(
            "id", p=judged, flagged=flags, not_revised=_not_revised(finished, preferred)
        ).collect()
        # A Python loop, so that the table is one function: 0.5 s per million rows.
        known = frame.select("p", "flagged", "not_revised").iter_rows()
        actions = [
            correction(p, flagged, self.eta, usable=problem is None)
            for p, flagged, problem in known
        ]
        decided = frame.with_columns(
            kept=pl.Series([_KEPT.get(one) for one in actions], dtype=pl.Boolean),
            why=pl.Series([_REASONS.get(one) for one in actions], dtype=pl.String),
        ).lazy()
        told = {"p": pl.col("p"), "eta": pl.lit(self.eta), "flagged": pl.col("flagged")}
        evidence = (
            pl.when(pl.col("not_revised").is_not_null() & (pl.col("p") > self.eta))
            .then(as_json(**told, not_revised=pl.col("not_revised")))
            .otherwise(as_json(**told))
        )
        return decided.select(
            "id", *verdict(pl.col("kept"), reason=pl.col("why"), evidence=evidence)
        )

    def create(self, rows: pa.Table, ctx: Context) -> pa.Table | None:
        revised = rows.filter(pl.Series(rows["reason"]).eq_missing(REVISED).to_arrow())
        if not revised.num_rows:
            return None
        candidates = revised[f"{self.proposals}.candidate"].to_pylist()
        messages = [
            _answered(turns, candidate)
            for turns, candidate in zip(revised["messages"].to_pylist(), candidates, strict=True)
        ]
        return pa.table(
            {
                "messages": pa.array(messages, MESSAGES),
                "tools": revised["tools"],
                "label": pa.nulls(revised.num_rows, pa.bool_()),
                "parents": pa.array([[one] for one in revised["id"].to_pylist()]),
                "sample": pa.array([0] * revised.num_rows, pa.int64()),
            }
        )


def _not_revised(finished: pl.Expr, preferred: pl.Expr) -> pl.Expr:
    """Why the candidate may not stand in the data; null where it may."""
    by_assistant = pl.element().struct.field("role") == "assistant"
    answer = pl.col("messages").list.filter(by_assistant).list.last()
    calls_tools = answer.struct.field("tool_calls").is_not_null()
    return (
        pl.when(finished.not_())
        .then(pl.lit("candidate_cut"))
        .when(calls_tools)
        .then(pl.lit("answer_calls_tools"))
        .when(pl.col("tools").is_not_null() & (pl.col("tools") != "[]"))
        .then(pl.lit("row_declares_tools"))
        .when(preferred != "second")
        .then(pl.format("judged_{}", preferred))
    )


def _answered(turns: list[dict[str, Any]], candidate: str) -> list[dict[str, Any]]:
    """The turns up to the last one of the assistant, which says `candidate`."""
    last = max(at for at, turn in enumerate(turns) if turn["role"] == "assistant")
    answer = {**dict.fromkeys(field.name for field in MESSAGE), "role": "assistant"}
    answer |= {"name": turns[last]["name"], "content": candidate}
    return [*turns[:last], answer]
