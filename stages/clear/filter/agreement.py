"""`clear.filter` with `estimator: agreement`: see AgreementFilter."""

from dataclasses import asdict
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from stages.clear.agreement import ANSWER_MARK, Agreement, MetaField, Pattern, agreements
from stages.clear.filter.base import ConfidenceFilter
from stages.clear.outcomes import score_table
from stages.context import Context


class AgreementFilter(ConfidenceFilter, frozen=True):
    """Keep the rows whose answer other samples come to as well. No model: the samples are given.

    `confidence`: the share, 0-1, of the samples whose answer is that of the last assistant turn.
    An answer is what `answer_pattern` finds: its first group or, without one, what follows its last
    match on that line. Numbers are compared as numbers (1,000 = 1000.0 = $1000), all else as text.
    `samples` counts them, `unread` those without an answer, which do not agree. A row without
    samples or without an answer of its own fails.

    Reason `low_confidence`; evidence `value` and `threshold`. Ours. It tells right from wrong
    solutions to grade-school problems, each with three other models' solutions as its samples, with
    an AUROC of 0.88 (`python -m benchmarks.clear_agreement`).
    """

    estimator: Literal["agreement"]
    samples_from: tuple[MetaField, ...] = Field(
        default=("meta.samples",),
        min_length=1,
        description="A meta field that holds a list of texts, or several that hold a text each.",
    )
    answer_pattern: Pattern = Field(
        default=ANSWER_MARK, description="A regular expression: where an answer stands."
    )

    @field_validator("samples_from", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    def reads(self) -> tuple[str, ...]:
        return ("messages", *self.samples_from)

    def scores(self) -> pa.Schema:
        return pa.schema(
            [
                pa.field("confidence", pa.float64()),
                pa.field("samples", pa.int32()),
                pa.field("unread", pa.int32()),
            ]
        )

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        found = agreements(rows, self.samples_from, self.answer_pattern)
        records = [asdict(one) if isinstance(one, Agreement) else one for one in found]
        return score_table(self.scores(), records)
