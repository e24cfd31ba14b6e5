"""`winnow run RECIPE --dry-run`: what there is to do."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pipelines.runner.dry_run import Forecast, StageForecast


def print_forecast(
    recipe: Path,
    workspace: Path,
    limit: int | None,
    changes: list[str],
    retry_failed: bool,
    json: bool,
) -> None:
    from flows.printing import print_json
    from flows.progress import shown_progress
    from pipelines.recipe import load_recipe
    from pipelines.runner.dry_run import DryRun
    from pipelines.store.workspace import Workspace

    loaded = load_recipe(recipe, changes)
    with shown_progress() as progress:
        forecast = DryRun(loaded, Workspace(workspace), limit, retry_failed, progress).run()
    if json:
        print_json(forecast.as_json())
    else:
        _print_stages(forecast)


def _print_stages(forecast: "Forecast") -> None:
    from flows.printing import print_table

    names = ["stage", "rows", "already scored", "to score", "model calls", "tokens"]
    priced = forecast.cost_about is not None
    print_table(
        [*names, "cost"] if priced else names,
        [[*_line(stage), *([_cost(stage)] if priced else [])] for stage in forecast.stages],
    )
    if any(stage.at_most for stage in forecast.stages):
        typer.echo(
            "at most: earlier stages have rows to score, and what they drop is not known yet."
        )
    if forecast.cost_about:
        from flows.counts import money

        typer.echo(
            f"cost: about {money(forecast.cost_about)} for reading the rows' texts. What models "
            "write, the instructions around\nthe texts and requests that are sent again come on "
            "top; tokens that a server has cached may cost less."
        )
    makers = [stage.stage for stage in forecast.stages if stage.creates]
    if makers:
        typer.echo(f"Rows that {', '.join(makers)} will create are not counted.")
    if forecast.failed:
        typer.echo(f"{forecast.failed:,} records cannot be read.")
    for note in forecast.notes:
        typer.echo(f"missing here: {note}")
    if forecast.finished:
        typer.echo("An earlier call has finished this run: a run calls no model.")
    typer.echo(f"run {forecast.run_id}")


def _cost(stage: "StageForecast") -> str:
    from flows.counts import money

    if not stage.cost_about:  # a stage without a price, or with nothing to score
        return "" if stage.cost_about is None else "0"
    return f"about {money(stage.cost_about)}"


def _line(stage: "StageForecast") -> list[object]:
    def bounded(number: int) -> str:
        return f"at most {number:,}" if stage.at_most and number else f"{number:,}"

    return [
        stage.stage,
        bounded(stage.rows),
        stage.already_scored,
        bounded(stage.to_score),
        bounded(stage.model_calls),
        f"about {stage.tokens_about:,}" if stage.model_calls else "0",
    ]
