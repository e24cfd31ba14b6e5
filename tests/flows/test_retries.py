"""What Prefect tries again, and what it does not."""

import pytest
from prefect.states import Failed

from flows.curate import is_stopped
from pipelines.engines.server.budget import BudgetSpent
from pipelines.runner.errors import RunStopped
from stages.engines import EngineError


def stopped_by(cause: Exception) -> RunStopped:
    try:
        raise RunStopped("clear.filter stopped") from cause
    except RunStopped as error:
        return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (stopped_by(EngineError("the server is away")), True),
        (stopped_by(BudgetSpent("20 of 20 requests")), False),
        (ValueError("a defect"), False),
    ],
)
def test_a_step_is_tried_again_when_the_engine_is_gone(error: Exception, again: bool) -> None:
    assert is_stopped(None, None, Failed(data=error)) is again  # type: ignore[arg-type]  # not read
