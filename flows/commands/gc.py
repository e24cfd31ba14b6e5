"""`winnow gc --keep-runs N`: free what nothing refers to."""

from typing import Annotated

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption


def gc(
    keep_runs: Annotated[
        int, typer.Option("--keep-runs", min=0, metavar="N", help="Keep the N latest runs.")
    ],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Free what the latest runs do not need.

    Removes older runs, and tables, scores and models that no remaining run refers to. Spared in
    any case: what a process at work uses, and what is younger than a day.
    """
    from flows.printing import print_json
    from pipelines.store.gc import Collector
    from pipelines.store.workspace import Workspace

    freed = Collector(Workspace(workspace), keep_runs, dry=dry_run).run()
    if json:
        print_json(freed.as_json())
        return
    would = "would be freed" if dry_run else "freed"
    typer.echo(
        f"{len(freed.runs)} runs, {len(freed.tables)} tables, {freed.parts} score parts, "
        f"{len(freed.models)} models: "
        f"{freed.bytes:,} bytes {would}."
    )
    if freed.kept_in_use:
        typer.echo(f"Kept, since they may be at work: {', '.join(freed.kept_in_use)}.")
