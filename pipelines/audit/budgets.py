"""Budgets in an audit: of its few rows a stage keeps the share that it keeps of the whole data.

`keep: {budget: 10000}` would keep all of the 230 rows that an audit decides about. Of 52,000 rows
of data the audit takes it as 44 of 230.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipelines.audit.planting import Kind
from stages.base import Stage
from stages.clear.filter.base import ConfidenceFilter
from stages.keep import KeepBudget
from stages.uds.select import UdsSelect


@dataclass(frozen=True)
class Scaled:
    """A budget of the recipe, and what it is taken as beside the bad rows of one kind."""

    stage: str
    kind: Kind
    budget: int
    data_rows: int
    taken: int
    rows: int

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "kind": self.kind,
            "budget": self.budget,
            "of": self.data_rows,
            "taken_as": self.taken,
            "taken_of": self.rows,
        }


def scaled(stage: Stage, kind: Kind, rows: int, data_rows: int) -> Scaled | None:
    """The budget of the stage as the same share of `rows`, at least 1; None for one without.

    data_rows: rows of the data, of the type that is audited. That earlier stages of a run drop some
    of them is not counted: an audit shows each stage all rows.
    """
    budget = _budget(stage)
    if budget is None:
        return None
    taken = max(1, round(Fraction(budget * rows, max(1, data_rows))))
    return Scaled(stage.label, kind, budget, data_rows, taken, rows)


def with_budget(stage: Stage, budget: int) -> Stage:
    """The stage with another budget in the place of its own."""
    if isinstance(stage, UdsSelect):
        return stage.model_copy(update={"budget": budget})
    return stage.model_copy(update={"keep": KeepBudget(budget=budget)})


def _budget(stage: Stage) -> int | None:
    if isinstance(stage, UdsSelect):
        return stage.budget
    if isinstance(stage, ConfidenceFilter) and isinstance(stage.keep, KeepBudget):
        return stage.keep.budget
    return None
