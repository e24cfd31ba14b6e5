"""`winnow run RECIPE`: curate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from flows.errors import Failure
from flows.options import DEFAULT_WORKSPACE, ChangesOption, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from flows.steps import Ended


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Read the first N records only.")
    ] = None,
    changes: ChangesOption = None,
    flow: Annotated[bool, typer.Option("--flow", help="Go through Prefect.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to do, and call no model.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Score rows again whose score is an error.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Curate: import, score, decide, export.

    The id of the run is the last word printed.
    """
    if dry_run:
        from flows.commands.dry_run import print_forecast

        print_forecast(recipe, workspace, limit, changes or [], retry_failed, json)
        return
    curate = _through_prefect if flow else _in_process
    ended = curate(recipe, workspace, limit, changes or [], retry_failed)
    if json:
        from flows.printing import print_json

        print_json(ended.outcome)
    else:
        print_outcome(ended.outcome)
    if ended.problem:
        raise Failure(ended.problem)


def print_outcome(outcome: Mapping[str, Any]) -> None:
    """The counts, the reasons, what it cost, the exports, the run's id."""
    from flows.counts import counts_table, reason_lines, usage_lines
    from flows.printing import print_table

    if outcome["stages"]:
        print_table(*counts_table(outcome["stages"]))
    for line in (*reason_lines(outcome["stages"]), *usage_lines(outcome["stages"])):
        typer.echo(line)
    for export in outcome["exports"]:
        typer.echo(f"wrote {export['path']}: {export['rows']:,} rows")
    if outcome["reused"]:
        typer.echo("An earlier call had finished this run; nothing was computed again.")
    if outcome["run_id"]:
        typer.echo(f"run {outcome['run_id']}")


def _in_process(
    recipe: Path, workspace: Path, limit: int | None, changes: list[str], retry_failed: bool
) -> "Ended":
    from flows.progress import shown_progress
    from flows.steps import curate
    from pipelines.recipe import load_recipe
    from pipelines.runner.curation import Curation
    from pipelines.store.workspace import Workspace

    loaded = load_recipe(recipe, changes)
    with shown_progress() as progress:
        return curate(Curation(loaded, Workspace(workspace), limit, retry_failed, progress))


def _through_prefect(
    recipe: Path, workspace: Path, limit: int | None, changes: list[str], retry_failed: bool
) -> "Ended":
    from flows.prefect_settings import quiet_prefect
    from flows.steps import Ended
    from pipelines.recipe import load_recipe

    load_recipe(recipe, changes)  # what is wrong is said before Prefect starts its server
    quiet_prefect()
    from prefect.exceptions import CancelledRun

    from flows.curate import CurationFailed, curate

    try:
        # Prefect types what a flow gives by its own states; this one gives the outcome.
        outcome = cast(
            "dict[str, Any]", curate(str(recipe), str(workspace), limit, changes, retry_failed)
        )
    except CurationFailed as failed:
        return failed.ended
    except CancelledRun as cancelled:
        raise Failure(str(cancelled)) from cancelled
    return Ended(outcome)
