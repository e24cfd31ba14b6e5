"""`winnow diff RUN RUN`: rows whose verdict changed, and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipelines.report.fates import Change, Difference, Fate

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run or its beginning.")]


def diff(
    before: RunArgument,
    after: RunArgument,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    examples: Annotated[
        int, typer.Option(min=0, metavar="N", help="Rows to show of each kind of change.")
    ] = 3,
    json: JsonOption = False,
) -> None:
    """Compare what two runs decided about each row."""
    from flows.printing import print_json
    from pipelines.report.fates import difference
    from pipelines.store.runs import find_run
    from pipelines.store.workspace import Workspace

    place = Workspace(workspace)
    one, other = find_run(place, before), find_run(place, after)
    found = difference(one, other)
    if json:
        print_json(_as_json(found, one.run_id, other.run_id, examples))
    else:
        _print(found, examples)


def _as_json(found: "Difference", before: str, after: str, examples: int) -> dict[str, Any]:
    return {
        "before": before,
        "after": after,
        "same": found.same,
        "changed": len(found.changes),
        "groups": [
            {
                "before": _verdict(changes[0].before),
                "after": _verdict(changes[0].after),
                "rows": len(changes),
                "examples": [_example(change) for change in changes[:examples]],
            }
            for changes in found.groups().values()
        ],
    }


def _verdict(fate: "Fate") -> dict[str, str]:
    return {"verdict": fate.verdict, "stage": fate.stage, "reason": fate.reason}


def _example(change: "Change") -> dict[str, Any]:
    import orjson

    return {
        "id": change.id,
        "evidence_before": orjson.loads(change.before.evidence),
        "evidence_after": orjson.loads(change.after.evidence),
    }


def _print(found: "Difference", examples: int) -> None:
    typer.echo(f"{_rows(len(found.changes))} changed, {found.same:,} did not.")
    for (before, after), changes in found.groups().items():
        typer.echo(f"\n{before} -> {after}: {_rows(len(changes))}")
        for change in changes[:examples]:
            why = [fate.evidence for fate in (change.before, change.after) if fate.evidence != "{}"]
            typer.echo(f"  {change.id}  {' -> '.join(why)}".rstrip())
        if examples and len(changes) > examples:
            typer.echo(f"  ... {len(changes) - examples:,} more (--examples {len(changes)})")


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
