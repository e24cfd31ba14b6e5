"""`winnow doctor`: what is installed, what works, where models would come from."""

from pathlib import Path

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def doctor(workspace: WorkspaceOption = DEFAULT_WORKSPACE, json: JsonOption = False) -> None:
    """Say what is installed and what works here.

    Packages, engines, devices, where models would come from. Uses no network. A
    missing package is a line of the answer, never an error.
    """
    from flows.printing import print_json, print_pairs, print_table
    from pipelines.report.installation import examined

    found = examined(Path(workspace))
    if json:
        print_json(found)
        return
    for title, lines in found.items():
        if not lines:
            continue
        typer.echo(title)
        if isinstance(lines, dict):
            print_pairs({f"  {name}": value for name, value in lines.items()})
        else:
            # Folders are as long as they are: below the table, which fits a narrow terminal.
            shown = [name for name in lines[0] if name != "where"]
            print_table(shown, [[line[name] for name in shown] for line in lines])
            for line in lines:
                if line.get("where"):
                    typer.echo(f"  {line[shown[0]]} in {line['where']}")
        typer.echo("")
