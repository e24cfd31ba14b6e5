"""`winnow train sft CONFIG`: train on a curated table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import readable_errors
from flows.options import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipelines.train.training import Trained

train = typer.Typer(
    help="Train on a curated table, choosing samples at every step.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def sft(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A training in YAML.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the config: dotted.key=value. Repeatable."
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Remove what the output folder holds and start anew.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune on answers (SFT): all samples, or those that a selection picks.

    Goes on from the last checkpoint in the output folder. With several processes: torchrun
    --nproc-per-node 2 -m flows.cli train sft CONFIG.
    """
    from flows.printing import print_json
    from flows.progress import shown_progress
    from pipelines.engines.opening import prepare_environment
    from pipelines.train.config import load_training

    loaded = load_training(config, changes or [])
    prepare_environment()  # what follows imports torch, which reads it
    from pipelines.train.training import train as trained

    with shown_progress() as progress:
        done = trained(loaded, workspace=workspace, fresh=fresh, progress=progress)
    if not done.first:
        return
    if json:
        print_json(done.as_json())
    else:
        _print(done)


train.command("sft")(readable_errors(sft))


def _print(done: "Trained") -> None:
    result, rows = done.manifest["result"], done.manifest["rows"]
    if done.status == "finished before":
        typer.echo("An earlier call had finished this training; nothing was trained.")
    typer.echo(
        f"{result['samples']:,} of {result['candidates']:,} candidates trained on in "
        f"{result['steps']:,} steps, from {rows['trained']:,} rows"
    )
    for name, title in (("loss", "loss"), ("held_out_loss", "held-out loss")):
        if result[name] is not None:
            typer.echo(f"{title} {result[name]:.4f}")
    if "selection_share" in done.times:
        typer.echo(f"choosing took {done.times['selection_share']:.1%} of the steps' time")
    if "scoring_over_forward" in done.times:
        share = done.times["scoring_over_forward"]
        typer.echo(f"scores cost {share:.1%} over the forward passes that they need")
    typer.echo(f"wrote {done.output}")
