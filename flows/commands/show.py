"""`winnow show RUN`: counts, reasons, timings and model calls of a run; rows that went."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipelines.store.runs import RunFolder

TEXT_LENGTH: Final = 300  # characters of a text that are shown; --json has them all


def show(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Id of a run, its beginning, or latest (default)."),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    dropped: Annotated[
        str | None,
        typer.Option("--dropped", metavar="STAGE", help="Show rows that this stage dropped."),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Show rows that failed.")] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration", metavar="STAGE", help="Show how far off a score is, by this stage."
        ),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE", help="With --calibration: write the curves there."),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows to show.")] = 10,
    seed: Annotated[int, typer.Option(help="Which rows to show: the same seed, the same.")] = 0,
    json: JsonOption = False,
) -> None:
    """Show a finished run, or rows that went, or how far off a score is.

    Counts, reasons, timings and model calls; or a sample of dropped or failed rows, each with its
    reason; or what a stage that calibrates has found.
    """
    from flows.calibration import show_calibration
    from pipelines.store.runs import find_run
    from pipelines.store.workspace import Workspace

    asked = {"--dropped": dropped, "--failed": failed, "--calibration": calibration}
    several = [name for name, value in asked.items() if value]
    if len(several) > 1:
        raise typer.BadParameter(f"{' and '.join(several)} exclude each other")
    if svg is not None and not calibration:
        raise typer.BadParameter("--svg draws what --calibration shows: say of which stage")
    folder = find_run(Workspace(workspace), run)
    if calibration:
        show_calibration(folder, calibration, svg, json)
    elif dropped or failed:
        _show_rows(folder, dropped, sample, seed, json)
    else:
        _show_run(folder, json)


def _show_rows(
    folder: "RunFolder", dropped: str | None, sample: int, seed: int, json: bool
) -> None:
    from flows.printing import print_json
    from pipelines.report.samples import gone_rows

    verdict = "drop" if dropped else "fail"
    rows = gone_rows(folder, verdict=verdict, stage=dropped, size=sample, seed=seed)
    if json:
        print_json(rows)
        return
    if not rows:
        typer.echo(f"{dropped} dropped no row." if dropped else "No row failed.")
    for number, row in enumerate(rows, start=1):
        _print_row(number, row)


def _print_row(number: int, row: dict[str, Any]) -> None:
    from pipelines.report.row_text import cut

    if number > 1:
        typer.echo("")
    typer.echo(f"{number}. {row['id']}")
    lines = {
        row["stage"]: row["reason"],
        "evidence": ", ".join(f"{name} {_text(value)}" for name, value in row["evidence"].items()),
        **row["text"],
    }
    width = max(len(name) for name in lines)
    for name, text in lines.items():
        typer.echo(f"   {name.ljust(width)}  {cut(text, TEXT_LENGTH)}".rstrip())


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_run(folder: "RunFolder", json: bool) -> None:
    from flows.commands.runs import summary
    from flows.printing import print_json

    manifest = folder.manifest() or {}
    stages = [{**stage, **stage["counts"]} for stage in manifest["stages"]]
    if not json:
        _print_run(summary(folder), stages, folder.calls())
        return
    shown = ("stage", "kind", "in", "kept", "dropped", "failed", "flagged", "created", "reasons")
    print_json(
        {
            **summary(folder),
            **{name: manifest[name] for name in ("limit", "seed", "engines", "versions")},
            "stages": [{name: stage[name] for name in shown} for stage in stages],
            "history": folder.calls(),
        }
    )


def _print_run(
    head: dict[str, Any], stages: list[dict[str, Any]], calls: list[dict[str, Any]]
) -> None:
    from flows.counts import counts_table, reason_lines
    from flows.printing import print_pairs, print_table

    free = () if head["cost"] else ("cost",)
    print_pairs({name: v for name, v in head.items() if v is not None and name not in free})
    typer.echo("")
    print_table(*counts_table(stages))
    for line in reason_lines(stages):
        typer.echo(line)
    if calls:
        typer.echo("")
        print_table(*_call_table(calls, [stage["stage"] for stage in stages]))


def _call_table(
    calls: list[dict[str, Any]], order: list[str]
) -> tuple[list[str], list[list[object]]]:
    """A line for each step of each call, in order. What is zero everywhere has no column."""
    counted = [
        name
        for name in ("cached_tokens", "retries", "cost")
        if any(step.get(name) for call in calls for step in call["steps"].values())
    ]
    names = ["call", "status", "step", "scored", "model calls", "tokens"]
    names += [*(name.replace("_", " ") for name in counted), "seconds"]
    return names, [
        [
            call["started"][:19].replace("T", " "),
            call["status"],
            name,
            step["scored"],
            step["model_calls"],
            step["prompt_tokens"] + step["completion_tokens"],
            *(step.get(name) for name in counted),  # empty: not counted yet in that call
            step["seconds"],
        ]
        for call in calls
        for name, step in sorted(call["steps"].items(), key=lambda item: order.index(item[0]))
    ]
