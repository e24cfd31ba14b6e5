import pytest

from pipelines.audit.budgets import Scaled, scaled, with_budget
from stages.base import Stage
from stages.clean.rules import CleanRules
from stages.clear.filter.likelihood import LikelihoodFilter
from stages.keep import KeepBudget
from stages.uds.select import UdsSelect

FILTER = LikelihoodFilter(estimator="likelihood", model="judge", keep=KeepBudget(budget=10_000))
SELECT = UdsSelect(model="judge", budget=10_000)


@pytest.mark.parametrize("stage", [FILTER, SELECT], ids=["keep", "uds.select"])
@pytest.mark.parametrize(
    ("rows", "data_rows", "taken"),
    [
        (230, 52_000, 44),  # 44.2
        (230, 10_000_000, 1),  # 0.23, at least 1
        (230, 5_000, 460),  # more than there are: all are kept, as of the data
        (10_000, 10_000, 10_000),
    ],
)
def test_a_budget_is_the_same_share_of_fewer_rows(
    stage: Stage, rows: int, data_rows: int, taken: int
) -> None:
    assert scaled(stage, "echo", rows, data_rows) == Scaled(
        stage.label, "echo", 10_000, data_rows, taken, rows
    )


@pytest.mark.parametrize(
    "stage",
    [
        CleanRules(),
        LikelihoodFilter(estimator="likelihood", model="judge"),
        UdsSelect(model="judge"),
    ],
    ids=["no rule", "median", "batches"],
)
def test_a_stage_without_a_budget_is_left_as_it_is(stage: Stage) -> None:
    assert scaled(stage, "echo", 230, 52_000) is None


def test_all_but_the_budget_of_a_stage_stays() -> None:
    assert with_budget(FILTER, 44) == FILTER.model_copy(update={"keep": KeepBudget(budget=44)})
    assert with_budget(SELECT, 44) == UdsSelect(model="judge", budget=44)
