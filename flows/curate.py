"""The Prefect flow: the steps of `winnow run`, one task run each.

A task takes no argument and gives back counts, never a table; nothing is cached or persisted by
Prefect, since the store of winnow does that. A stage whose engine is gone is tried again, and goes
on where it stopped. The flow is a plain function, not a coroutine: the work fills its thread, and
Ctrl-C must reach it (an async flow would be done one second earlier).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from flows.prefect_settings import quiet_prefect

quiet_prefect()  # a served flow is imported by Prefect, so this is the first line of ours

from prefect import State, Task, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Failed

from flows import steps
from flows.counts import markdown
from flows.only_run import StillRunning, only_run
from flows.progress import Lines
from pipelines.engines.server.budget import BudgetSpent
from pipelines.recipe import load_recipe
from pipelines.runner.curation import Curation
from pipelines.runner.errors import RunStopped
from pipelines.store.workspace import Workspace

T = TypeVar("T")

# A server that restarts is back within a minute; what takes longer is for the next scheduled run.
RETRY_DELAYS_S: Final = (10.0, 60.0)


class CurationFailed(Exception):
    """The flow's run has failed: an engine is gone, or too many rows failed."""

    def __init__(self, ended: steps.Ended) -> None:
        self.ended = ended
        super().__init__(ended.problem)


@flow(name="winnow", persist_result=False)
def curate(
    recipe_path: str,
    workspace: str = ".winnow",
    limit: int | None = None,
    changes: list[str] | None = None,
    retry_failed: bool = False,
) -> Any:
    """Curate as `winnow run` does; gives what `winnow run --json` prints.

    Ends as Failed with CurationFailed when the run failed, and as Cancelled when another flow run
    of the same recipe is still at work in the same workspace.
    """
    recipe = load_recipe(Path(recipe_path), changes or [])
    lines = Lines(get_run_logger().info)
    try:
        with only_run(Path(workspace), Path(recipe_path)):
            curation = Curation(recipe, Workspace(Path(workspace)), limit, retry_failed, lines)
            ended = steps.curate(curation, as_tasks())
    except StillRunning as busy:
        return Cancelled(message=str(busy))
    create_markdown_artifact(
        markdown(ended.outcome), key=artifact_key(recipe.name), description="Counts of the run."
    )
    if ended.problem:
        return Failed(message=ended.problem, data=CurationFailed(ended))
    return ended.outcome


def as_tasks(retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> steps.Caller:
    """Calls each step as a Prefect task run that bears the step's name."""

    def call(name: str, step: Callable[[], T]) -> T:
        @task(
            name=name,
            task_run_name=name,
            retries=len(retry_delays_s),
            retry_delay_seconds=list(retry_delays_s),
            retry_condition_fn=is_stopped,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        def one_step() -> T:
            return step()

        return one_step()

    return call


def is_stopped(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether it is worth trying again: the engine is at fault, not the recipe or the rows.

    A budget that is spent is spent: it is one call's, however often its steps are tried.
    """
    problem = state.data
    return isinstance(problem, RunStopped) and not isinstance(problem.__cause__, BudgetSpent)


def artifact_key(recipe: str) -> str:
    """Prefect's artifact keys are made of small letters, digits and dashes."""
    return "winnow-" + (re.sub(r"[^a-z0-9]+", "-", recipe.lower()).strip("-") or "recipe")
