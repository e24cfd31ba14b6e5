"""`winnow export RUN --format F --out PATH`: another export of a finished run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipelines.exporters.report import ExportReport


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Id of a run, its beginning, or latest.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="messages, prompt-completion, alpaca, sharegpt, preference, parquet or hf.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="File (hf: folder) to write.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    held_out: Annotated[
        float | None,
        typer.Option("--held-out", metavar="SHARE", help="Set this share of the prompts aside."),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An option of the format, e.g. style=plain."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the rows that a finished run kept. Calls no model."""
    from flows.printing import print_json

    asked: dict[str, Any] = {"format": form, "path": str(out)}
    if held_out is not None:
        asked["split"] = {"held_out": held_out}
    report = _write(asked, options or [], workspace, run)
    if json:
        print_json(report.as_json())
    else:
        typer.echo(f"wrote {report.summary()}")


def _write(asked: dict[str, Any], options: list[str], workspace: Path, run: str) -> "ExportReport":
    from pipelines.exporters.export import write_export
    from pipelines.exporters.targets import over_inputs, over_source
    from pipelines.recipe import RecipeError, parse_export
    from pipelines.runner.provenance import export_provenance, export_row_type
    from pipelines.runner.restoring import rows_of
    from pipelines.store.runs import find_run
    from pipelines.store.workspace import Workspace

    spec = parse_export(asked, options)
    folder = find_run(Workspace(workspace), run)
    manifest = folder.manifest() or {}
    given = manifest["recipe"]["source"].get("path", ())
    origin = export_provenance(folder)
    # Its path is as the recipe has it, and today's folder may be another: its bytes are asked too.
    over = over_source([given] if isinstance(given, str) else given, [spec])
    if over := over or over_inputs(spec, {one.key for one in origin.inputs}, folder.run_id):
        raise RecipeError(over, "the export")
    rows = rows_of(folder)
    row_type = export_row_type(spec, rows)
    return write_export(rows.scan(row_type), row_type, spec, origin, seed=manifest["seed"])
