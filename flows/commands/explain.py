"""`winnow explain ROW_ID`: the whole story of a row."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, RunOption, WorkspaceOption


def explain(
    row_id: Annotated[
        str, typer.Argument(metavar="ROW_ID", help="Id of a row, or its beginning if unique.")
    ],
    run: RunOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    json: JsonOption = False,
) -> None:
    """Tell the whole story of a row.

    Its text, where it comes from, parents, every score, every verdict and why.
    """
    from flows.printing import print_json
    from pipelines.report.row_story import story
    from pipelines.store.runs import find_run
    from pipelines.store.workspace import Workspace

    told = story(find_run(Workspace(workspace), run), row_id)
    if json:
        print_json(told)
    else:
        _print(told)


def _print(told: Mapping[str, Any]) -> None:
    from flows.printing import print_pairs

    head = {name: told[name] for name in ("id", "type", "source", "run_id") if told[name]}
    print_pairs(head)
    for name, text in told["text"].items():
        typer.echo(f"\n[{name}]\n{text}")
    if told["tools"]:
        typer.echo(f"\n[tools]\n{told['tools']}")
    if told["meta"]:
        typer.echo("\n[meta]")
        print_pairs(told["meta"])
    for kind in ("parents", "children"):
        for relative in told[kind]:
            typer.echo(f"\n{kind[:-1] if kind == 'parents' else 'child'} {_relative(relative)}")
    for step in told["steps"]:
        flagged = " (flagged only: it flows on)" if step["flagged"] else ""
        reason = f": {step['reason']}" if step["reason"] else ""
        typer.echo(f"\n{step['stage']}  {step['verdict']}{reason}{flagged}")
        for title in ("scores", "evidence"):
            for name, value in step[title].items():
                typer.echo(f"  {title[:-1] if title == 'scores' else title} {name} = {value}")


def _relative(relative: Mapping[str, Any]) -> str:
    if relative["verdict"] == "keep":
        return f"{relative['id']} (kept)"
    return f"{relative['id']} ({relative['verdict']} by {relative['stage']}: {relative['reason']})"
