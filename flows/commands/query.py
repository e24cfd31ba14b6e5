"""`winnow query "SQL"`: DuckDB over the views of a run."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flows.options import DEFAULT_WORKSPACE, RunOption, WorkspaceOption

if TYPE_CHECKING:
    import duckdb

AT_ONCE: Final = 10_000
IN_A_TABLE: Final = 200  # nobody reads more; csv and json give everything


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that only looks.")],
    run: RunOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> None:
    """Ask a run with SQL.

    The views: rows, kept, dropped, failed, verdicts, and scores_<stage> (clear.filter is
    scores_clear_filter).
    """
    from pipelines.report.database import ask
    from pipelines.store.runs import find_run
    from pipelines.store.workspace import Workspace

    result = ask(find_run(Workspace(workspace), run), sql)
    names = [column[0] for column in result.description or []]
    if form is Format.csv:
        _print_csv(names, _rows(result))
    elif form is Format.json:
        _print_json(names, _rows(result))
    else:
        _print_table(names, result)


def _rows(result: "duckdb.DuckDBPyConnection") -> Iterator[tuple[Any, ...]]:
    while rows := result.fetchmany(AT_ONCE):
        yield from rows


def _print_csv(names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """Nested values are JSON within their cell."""
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)


def _csv_cell(value: object) -> object:
    from flows.printing import json_line

    if isinstance(value, list | dict | tuple):
        return json_line(value)
    return value.hex() if isinstance(value, bytes) else value


def _print_json(names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """An array with one object a line, written as it comes."""
    from flows.printing import json_line

    if twice := [name for name in names if names.count(name) > 1]:
        raise typer.BadParameter(
            f"two columns are called '{twice[0]}', and a JSON object holds one: rename it with AS"
        )
    typer.echo("[", nl=False)
    for number, row in enumerate(rows):
        line = json_line(dict(zip(names, row, strict=True)))
        typer.echo(f"{',' if number else ''}\n{line}", nl=False)
    typer.echo("\n]")


def _print_table(names: list[str], result: "duckdb.DuckDBPyConnection") -> None:
    from flows.printing import print_table

    rows = result.fetchmany(IN_A_TABLE)
    print_table(names, rows)
    more = sum(1 for _ in _rows(result))
    if more:
        typer.echo(f"... {more:,} more rows: --format csv or json prints all of them", err=True)
