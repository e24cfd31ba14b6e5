"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_WORKSPACE: Final = Path(".winnow")

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", metavar="DIR", envvar="WINNOW_WORKSPACE", help="Where all results are kept."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the recipe: dotted.key=value. Repeatable."
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="Id of a run, its beginning, or latest (default)."),
]
