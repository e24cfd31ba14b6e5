"""`winnow`: the command line. Each command stands in its own file under `flows/commands`.

Nothing heavy is imported here or at the top of those files, so that `winnow --help` answers at
once; a command imports what it needs when it is called.
"""

import typer

from flows.commands.audit import audit
from flows.commands.diff import diff
from flows.commands.doctor import doctor
from flows.commands.explain import explain
from flows.commands.export import export
from flows.commands.gc import gc
from flows.commands.query import query
from flows.commands.run import run
from flows.commands.runs import runs
from flows.commands.serve import serve
from flows.commands.show import show
from flows.commands.stages import stages
from flows.commands.train import train
from flows.errors import readable_errors

app = typer.Typer(
    name="winnow",
    help="Curate training data: every row scored once, every verdict explained, no row lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (run, runs, show, diff, query, explain, export, serve, audit, stages, gc, doctor):
    app.command(command.__name__)(readable_errors(command))
app.add_typer(train, name="train")

if __name__ == "__main__":  # for torchrun, which starts a module
    app()
