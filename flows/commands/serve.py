"""`winnow serve RECIPE --cron`: a scheduled Prefect deployment."""

from pathlib import Path
from typing import Annotated

import typer

from flows.options import DEFAULT_WORKSPACE, ChangesOption, WorkspaceOption


def serve(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")],
    cron: Annotated[
        str, typer.Option("--cron", metavar="CRON", help='When to run, e.g. "0 2 * * *".')
    ],
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="Of the schedule: Europe/Berlin.")
    ] = "UTC",
    name: Annotated[
        str | None, typer.Option("--name", help="Of the deployment; default: the recipe's.")
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    changes: ChangesOption = None,
) -> None:
    """Run a recipe by the clock, through Prefect, until stopped.

    Uses the Prefect server of PREFECT_API_URL, or starts one on this machine. A run never starts
    while the last one goes on.
    """
    from flows.prefect_settings import quiet_prefect

    quiet_prefect()
    from flows import deployment

    deployment.serve(
        recipe, workspace, cron=cron, timezone=timezone, name=name, changes=changes or []
    )
