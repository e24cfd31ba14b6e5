"""A recipe as a scheduled Prefect deployment.

A run never starts while the last one goes on: the deployment has one slot and cancels a run that
finds it taken (the next one sees the same rows and more), and the flow itself holds a lock.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule
from prefect.schedules import Cron, Schedule
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import ValidationError

from flows.curate import curate
from flows.local_server import local_server
from pipelines.recipe import RecipeError, load_recipe


def serve(
    recipe: Path,
    workspace: Path,
    *,
    cron: str,
    timezone: str,
    name: str | None,
    changes: Sequence[str],
) -> None:
    """Serve until stopped. Raises RecipeError for a wrong recipe or schedule.

    Each run reads the recipe anew and starts in the current folder, as `winnow run` would now.
    """
    loaded = load_recipe(recipe, changes)
    schedule = parsed_schedule(cron, timezone)
    with prefect_server(workspace) as url:
        typer.echo(
            f"{loaded.name} runs at '{cron}' ({timezone}). Prefect: {url.removesuffix('/api')}"
        )
        curate.serve(
            name=name or loaded.name,
            schedule=schedule,
            parameters={
                "recipe_path": str(recipe.resolve()),
                "workspace": str(workspace.resolve()),
                "changes": list(changes),
            },
            global_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
            paused=False,
            tags=["winnow"],
            entrypoint_type=EntrypointType.MODULE_PATH,
            print_starting_message=False,
        )


def parsed_schedule(cron: str, timezone: str) -> Schedule:
    """The schedule, checked before anything is started."""
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        problems = [problem["msg"].removeprefix("Value error, ") for problem in error.errors()]
        raise RecipeError(problems, "the schedule") from error
    return Cron(cron, timezone=timezone)


@contextmanager
def prefect_server(workspace: Path) -> Iterator[str]:
    """The address of the Prefect server to talk to: the one that is set, or one of our own."""
    configured = get_current_settings().api.url
    if configured:
        yield configured
        return
    with (
        local_server(workspace / "prefect-server.log") as url,
        temporary_settings(updates={PREFECT_API_URL: url}),
    ):
        yield url
