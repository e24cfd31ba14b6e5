"""`clean.rules`: rows that no model is needed to refuse."""

from collections.abc import Iterable
from typing import ClassVar, Literal

import polars as pl
import pyarrow as pa
from pydantic import Field

from schemas.rows import RowType
from stages.base import Stage
from stages.clean.features import FEATURES, features
from stages.context import Context
from stages.verdicts import as_json, told_where, verdict

Rule = Literal[
    "empty",
    "placeholder",
    "encoding_garbage",
    "refusal",
    "repeated_lines",
    "loop",
    "too_short",
    "too_long",
]


class CleanRules(Stage, frozen=True):
    """Drop rows that are visibly broken, each for a reason of its own.

    Instruction rows. The answer is the last assistant turn. The first rule that holds, in this
    order, gives the reason; the evidence lists all that hold:

    empty             the answer, the prompt, or any user or assistant turn is blank. A turn that
                      calls tools is not, and a tool may return nothing
    placeholder       the whole answer stands for one: "N/A", "TODO", "<nooutput>", "...", "your
                      answer here"; "None" and the like only where the prompt asks no question and
                      does not use the word
    encoding_garbage  U+FFFD, text decoded twice ("Ã©", "â€™") or control characters make up more
                      than `max_garbage`
    refusal           the answer begins by refusing ("I'm sorry, but I can't help with that", "As
                      an AI language model, I do not"). Safety data needs its refusals: `skip:
                      [refusal]`. Rows that offer tools may say that none of them fits
    repeated_lines    lines that occurred before make up more than `max_repeated_lines` of the
                      answer
    loop              the answer ends in one piece of text over and over, which makes up more than
                      `max_loop` of it
    too_short         fewer characters than `min_answer_chars` or `min_prompt_chars`
    too_long          more characters than `max_chars` in all turns

    Score columns: `stages.clean.features.FEATURES`. 1,000,000 rows of 220 bytes take 2 s. No model.

    Sources: refusals and placeholders as in Alpaca-cleaned and the "unfiltered" Vicuna and WizardLM
    sets; repetition after Rae et al. 2021 (Gopher), https://arxiv.org/abs/2112.11446, table A1, but
    laxer, since theirs is for web pages: with their 0.2 to 0.3, songs and tables go.
    """

    kind: Literal["clean.rules"] = "clean.rules"
    skip: tuple[Rule, ...] = Field(default=(), description="Rules that are not applied.")
    min_answer_chars: int = Field(
        default=1, ge=0, description='1: "3", "B" and an emoji are right answers to some prompts.'
    )
    min_prompt_chars: int = Field(default=1, ge=0)
    max_chars: int = Field(default=100_000, ge=1, description="About 25,000 tokens of English.")
    max_garbage: float = Field(
        default=0.005, ge=0, le=1, description="Share: one broken character in 200 is still kept."
    )
    max_repeated_lines: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Share. Songs reach 0.5, tables 0.6, timetables 0.7; five equal lines 0.8.",
    )
    max_loop: float = Field(
        default=0.3, ge=0, le=1, description="Share. 0 in all of 47,000 rows of public data."
    )

    version: ClassVar[int] = 1
    accepts: ClassVar[tuple[RowType, ...]] = ("instruction",)
    decide_only: ClassVar[frozenset[str]] = frozenset(
        {
            "skip",
            "min_answer_chars",
            "min_prompt_chars",
            "max_chars",
            "max_garbage",
            "max_repeated_lines",
            "max_loop",
        }
    )

    def reads(self) -> tuple[str, ...]:
        return ("messages", "tools")

    def scores(self) -> pa.Schema:
        return FEATURES

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        batches = rows.select(self.reads()).to_batches()
        scored = [features(batch["messages"], batch["tools"]) for batch in batches]
        return pa.concat_tables(scored) if scored else FEATURES.empty_table()

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        rules = {name: holds for name, holds in self._rules().items() if name not in self.skip}
        scores = rows.select("id", *FEATURES.names).with_columns(
            garbage_share=_share(pl.col("garbage"), pl.col("chars"))
        )
        judged = scores.with_columns(holds.alias(name) for name, holds in rules.items()).collect()
        drop = judged.select(pl.any_horizontal(pl.lit(False), *rules)).to_series()
        first = pl.coalesce(
            pl.lit(None, pl.String), *(pl.when(name).then(pl.lit(name)) for name in rules)
        )
        told = judged.filter(drop).select(_evidence(rules)).to_series()
        return judged.lazy().select(
            "id", *verdict(~pl.lit(drop), reason=first, evidence=told_where(drop, told))
        )

    def _rules(self) -> dict[str, pl.Expr]:
        """When each rule holds, in the order in which they give the reason."""
        answer, prompt = pl.col("answer_chars"), pl.col("prompt_chars")
        return {
            "empty": (answer == 0) | (prompt == 0) | (pl.col("blank_turns") > 0),
            "placeholder": pl.col("placeholder"),
            "encoding_garbage": pl.col("garbage_share") > self.max_garbage,
            "refusal": pl.col("refusal"),
            "repeated_lines": pl.col("repeated_line_share") > self.max_repeated_lines,
            "loop": pl.col("loop_share") > self.max_loop,
            "too_short": (answer < self.min_answer_chars) | (prompt < self.min_prompt_chars),
            "too_long": pl.col("chars") > self.max_chars,
        }


_FIGURES = {
    "empty": ("answer_chars", "prompt_chars", "blank_turns"),
    "encoding_garbage": ("garbage", "garbage_share"),
    "repeated_lines": ("repeated_line_share",),
    "loop": ("loop_share",),
    "too_short": ("answer_chars", "prompt_chars"),
    "too_long": ("chars",),
}


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    return pl.when(whole > 0).then(part / whole).otherwise(0.0)


def _evidence(rules: Iterable[str]) -> pl.Expr:
    """{"rules": [all that hold], and the figures that the rules look at}."""
    holding = pl.concat_list([pl.when(name).then(pl.lit(name)) for name in rules] or [pl.lit(None)])
    figures = {name: pl.col(name) for rule in rules for name in _FIGURES.get(rule, ())}
    return as_json(rules=holding.list.drop_nulls(), **figures)
