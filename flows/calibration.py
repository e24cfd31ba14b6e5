"""What `winnow show --calibration` prints, and the picture that it writes."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipelines.report.calibration import Calibration
    from pipelines.store.runs import RunFolder


def show_calibration(folder: "RunFolder", stage: str, svg: Path | None, json: bool) -> None:
    """The figures before and after, and all bins; with `svg`, the curves in that file as well."""
    from flows.printing import print_json
    from pipelines.report.calibration import calibration

    found = calibration(folder, stage)
    if svg is not None:
        _write_picture(found, svg)
    if json:
        print_json(found.as_json())
        return
    _print_figures(found)
    if svg is not None:
        typer.echo(f"\nThe curves: {svg}")


def _write_picture(found: "Calibration", svg: Path) -> None:
    from pipelines.report.reliability_svg import reliability_svg
    from pipelines.store.atomic import write_bytes

    title = f"{found.score_column} against {found.labels}: {found.before.rows:,} rows"
    panels = {"as scored": found.before, f"{found.method}, out of fold": found.after}
    write_bytes(svg, reliability_svg(title, panels).encode())


def _print_figures(found: "Calibration") -> None:
    from flows.printing import print_pairs, print_table

    curves = {"before": found.before, "after": found.after}
    known = found.before
    given = f"{known.rows:,} of {found.rows:,} rows, {known.true:,} true"
    print_pairs(
        {
            "score": found.score_column,
            "labels": f"{found.labels}: {given}",
            "method": f"{found.method}; after: out of fold",
        }
    )
    typer.echo("")
    print_table(
        ["", "calibration error", "brier score"],
        [[name, _figure(one.error), _figure(one.brier)] for name, one in curves.items()],
    )
    typer.echo("")
    print_table(
        ["", "rows", "from", "to", "mean score", "true"],
        [
            [name, bin_.rows, *map(_figure, (bin_.lowest, bin_.highest, bin_.mean, bin_.true))]
            for name, one in curves.items()
            for bin_ in one.bins
        ],
    )
    if found.before.error is None:
        typer.echo(
            "\nThe score is below 0 or above 1 in places: no probability, so no error of it."
        )


def _figure(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
