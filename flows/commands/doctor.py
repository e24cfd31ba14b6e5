"""`winnow doctor`: what is installed, what works, where models would come from."""

from pathlib import Path

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE, json: JsonOption = False) -> None:
    """Say what is installed and what works here.

    Packages, engines, devices, where models would come from. Uses no network. A
    missing package is a line of the answer, never an error.
    """
    from flows.printing import print_json, print_table
    from pipelines.report.installation import examined

    found = examined(Path(workspace))
    if json:
        print_json(found)
        return
    for title, lines in found.items():
        typer.echo(f"{title}")
        if isinstance(lines, list):
            print_table(list(lines[0]), [list(line.values()) for line in lines])
        else:
            for name, value in lines.items():
                typer.echo(f"  {name}  {value}")
        typer.echo("")
