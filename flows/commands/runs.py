"""`winnow runs`: what was run."""

from typing import TYPE_CHECKING, Any

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipelines.store.runs import RunFolder


def runs(workspace: WorkspaceOption = DEFAULT_WORKSPACE, json: JsonOption = False) -> None:
    """List all runs, the latest first."""
    from flows.printing import print_json, print_table
    from pipelines.store.runs import all_runs
    from pipelines.store.workspace import Workspace

    found = [summary(folder) for folder in reversed(all_runs(Workspace(workspace)))]
    if json:
        print_json(found)
    elif not found:
        typer.echo(f"There are no runs in {workspace} yet:  winnow run RECIPE")
    else:
        names = ("run_id", "recipe", "started", "status", "in", "kept", "model_calls", "seconds")
        heads = ["run", "recipe", "started", "status", "in", "kept", "model calls", "seconds"]
        print_table(heads, [[run[name] for name in names] for run in found])


def summary(folder: "RunFolder") -> dict[str, Any]:
    """A run in one line; model calls, cost and seconds are those of all its calls together.

    The status of a run that was killed in its first call is `unfinished`.
    """
    from pipelines.runner.outcome import COST_DIGITS

    calls = folder.calls()
    manifest = folder.manifest()
    last = calls[-1] if calls else None
    steps = [step for call in calls for step in call["steps"].values()]
    counts = [stage["counts"] for stage in manifest["stages"]] if manifest else []
    created = sum(stage["created"] for stage in counts)
    gone = sum(stage["dropped"] - stage["flagged"] + stage["failed"] for stage in counts)
    return {
        "run_id": folder.run_id,
        "recipe": last["recipe"] if last else None,
        "started": last["started"][:19].replace("T", " ") if last else None,
        "status": last["status"] if last else "unfinished",
        "in": counts[0]["in"] if counts else None,
        "kept": counts[0]["in"] + created - gone if counts else None,
        "calls": len(calls),
        "model_calls": sum(step["model_calls"] for step in steps),
        # Calls of before there were prices have no cost, and had none.
        "cost": round(sum(step.get("cost", 0.0) for step in steps), COST_DIGITS),
        "seconds": round(sum(call["seconds"] for call in calls), 3),
    }
