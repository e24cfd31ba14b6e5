"""`winnow audit RECIPE`: what each filter catches on your own data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import DEFAULT_WORKSPACE, ChangesOption, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipelines.audit.planting import Kind


def audit(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe in YAML.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    rows: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rows of your data, which count as clean.")
    ] = 200,
    planted: Annotated[
        int, typer.Option(min=1, metavar="N", help="Bad rows to plant of each kind.")
    ] = 30,
    kinds: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,KIND",
            help="Of swapped, neighbour, truncated, number, negated, echo and context; all.",
        ),
    ] = None,
    precision: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Precision to find a threshold for."),
    ] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Which rows, and how they are spoiled.")] = 0,
    changes: ChangesOption = None,
    json: JsonOption = False,
) -> None:
    """Measure what each stage catches: plant known-bad rows in a copy of your data.

    Nothing of your runs is touched; scores are shared with them.
    """
    from flows.printing import print_json
    from flows.progress import shown_progress
    from pipelines.audit.run import Audit, AuditOptions
    from pipelines.recipe import load_recipe
    from pipelines.store.workspace import Workspace

    asked = AuditOptions(rows, planted, seed, _kinds(kinds), precision)
    loaded = load_recipe(recipe, changes or [])
    with shown_progress() as progress:
        report = Audit(loaded, Workspace(workspace), asked, progress).run()
    if json:
        print_json(report)
    else:
        print_report(report)


def _kinds(given: str | None) -> "tuple[Kind, ...]":
    """The kinds asked for, in our order, each once."""
    from pipelines.audit.planting import KINDS

    if given is None:
        return KINDS
    named = {name.strip() for name in given.split(",") if name.strip()}
    unknown = sorted(named - set(KINDS))
    if unknown or not named:
        what = f"there is no {', '.join(unknown)}" if unknown else "none is named"
        raise typer.BadParameter(f"--kinds: {what}; there are {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in named)


def print_report(report: Mapping[str, Any]) -> None:
    """What was planted, the figures, what is caught and what is not, what it cost."""
    from flows.counts import usage_lines
    from flows.printing import print_table

    typer.echo(
        f"{report['clean']:,} rows as they are, which count as clean, and beside them bad rows of "
        "one kind at a time:"
    )
    for one in report["planted"]:
        typer.echo(_planted(one))
    typer.echo("")
    idle = _idle(report["figures"])
    names = ["stage", "kind", "AUROC", "recall", "precision", "clean lost"]
    wanted = f"threshold for precision {report['precision']:g}"
    lines = [_line(figure) for figure in report["figures"] if figure["stage"] not in idle]
    print_table([*names, wanted], lines)
    typer.echo("In brackets: 95 % intervals (bootstrap).")
    if idle:
        typer.echo(f"No row is dropped, clean or bad of any kind, by: {', '.join(idle)}.")
    for line in [*_failures(report["figures"]), *_budgets(report["budgets"])]:
        typer.echo(line)
    for one in report["left_out"]:
        typer.echo(f"{one['stage']} is left out: {one['why']}.")
    typer.echo("")
    for one in report["findings"]:
        typer.echo(one["text"])
    for one in report["calibrations"]:
        typer.echo(_calibration(one))
    typer.echo("")
    if report["reused"]:
        typer.echo("An earlier call had finished this audit; nothing was computed again.")
    else:
        print_table(*_efforts(report["efforts"]))
        for line in usage_lines(report["efforts"]):
            typer.echo(line)
    typer.echo(f"tables: {report['folder']}")


def _calibration(one: Mapping[str, Any]) -> str:
    error, after = one["before"]["error"], one["after"]
    found = "none, since it is not within 0 and 1" if error is None else f"{error:.3f}"
    told = f"The calibration error of {one['stage']}: {found}"
    if after is None:
        return f"{told}; there are too few rows to calibrate it."
    method = one["method"].capitalize()
    return f"{told}; {after['error']:.3f} after {method} scaling ({after['rows']} rows)."


def _planted(one: Mapping[str, Any]) -> str:
    line = f"  {one['kind']}: {one['rows']}"
    if one["rows"] == one["wanted"]:
        return line
    return f"{line} of {one['wanted']}: no more fit among {one['tried']:,} rows"


def _idle(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Stages without a score that drop nothing at all: they get a sentence, not a line a kind."""
    busy = {
        one["stage"]
        for one in figures
        if one["auroc"] or one["failed"] or one["recall"]["value"] or one["clean_lost"]["value"]
    }
    stages = dict.fromkeys(one["stage"] for one in figures)
    return [stage for stage in stages if stage not in busy and stage != figures[-1]["stage"]]


def _failures(figures: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each stage on which rows have failed.

    Not for the whole recipe, of which the same rows have failed.
    """
    told = []
    whole = figures[-1]["stage"]
    for stage in dict.fromkeys(one["stage"] for one in figures):
        here = [one for one in figures if one["stage"] == stage]
        # Beside each kind there are the same clean rows.
        parts = [(here[0]["failed_clean"], here[0]["clean"], "clean")]
        parts += [(one["failed"] - one["failed_clean"], one["bad"], one["kind"]) for one in here]
        failed = [f"{n} of {n + sound} {which} rows" for n, sound, which in parts if n]
        if failed and stage != whole:
            told.append(f"{stage}: {_and(failed)} failed and are not in these figures.")
    return told


def _budgets(budgets: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each stage with a budget. Beside fewer bad rows it is taken as less."""
    told = []
    for stage in dict.fromkeys(one["stage"] for one in budgets):
        here = [one for one in budgets if one["stage"] == stage]
        taken = list(dict.fromkeys(f"{one['taken_as']} of {one['taken_of']}" for one in here))
        whole = f"budget {here[0]['budget']:,} of {here[0]['of']:,} rows"
        told.append(f"{stage}: {whole} is taken as {_and(taken)}.")
    return told


def _and(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _line(figure: Mapping[str, Any]) -> list[object]:
    estimates = [_estimate(figure[name]) for name in ("auroc", "recall", "precision", "clean_lost")]
    return [figure["stage"], figure["kind"], *estimates, _threshold(figure["threshold"])]


def _estimate(given: Mapping[str, Any] | None) -> str:
    if given is None or given["value"] is None:
        return ""
    return f"{given['value']:.2f} ({given['low']:.2f}-{given['high']:.2f})"


def _threshold(given: Mapping[str, Any] | None) -> str:
    from pipelines.audit.figures import written

    if given is None:
        return ""
    return f"{written(given['value'])}: recall {given['recall']:.2f}"


def _efforts(efforts: list[dict[str, Any]]) -> tuple[list[str], list[list[object]]]:
    names = ["stage", "scored", "model calls", "tokens", "seconds"]
    return names, [
        [
            one["stage"],
            one["scored"],
            one["model_calls"],
            one["prompt_tokens"] + one["completion_tokens"],
            one["seconds"],
        ]
        for one in efforts
    ]
