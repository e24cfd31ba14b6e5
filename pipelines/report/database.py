"""A finished run in DuckDB: the views of `pipelines.runner.views` in a database in memory."""

from typing import Any, Final

import duckdb

from pipelines.runner.views import run_views
from pipelines.store.runs import RunFolder

# DuckDB's kind of statement for whatever only looks (DESCRIBE, SHOW, FROM and WITH as well).
# Not EXPLAIN: EXPLAIN ANALYZE runs what it explains.
LOOKING: Final = "SELECT"


class QueryError(Exception):
    """The SQL is wrong, or would change something. The message says what there is to ask."""


class NoSuchRow(Exception):
    """No row of the run has that id, or several ids begin like that."""


def open_views(folder: RunFolder) -> duckdb.DuckDBPyConnection:
    """A connection that knows the run's views. It downloads no extension."""
    connection = duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )
    for statement in run_views(folder):
        connection.execute(statement)
    return connection


def ask(folder: RunFolder, sql: str) -> duckdb.DuckDBPyConnection:
    """The result of one statement that only looks. Raises QueryError."""
    connection = open_views(folder)
    try:
        statements = connection.extract_statements(sql)
        kinds = [statement.type.name for statement in statements]
        if kinds != [LOOKING]:
            raise QueryError(
                f"One statement that only looks is allowed, not {', '.join(kinds) or 'none'}. "
                f"To change or save something, use DuckDB itself:  duckdb -init "
                f"{folder.path / 'views.sql'}"
            )
        return connection.execute(statements[0])
    except duckdb.Error as error:
        raise QueryError(f"{error}\n{described(folder)}") from error


def described(folder: RunFolder) -> str:
    """The views of the run and their columns, a line each."""
    connection = open_views(folder)
    found = connection.execute(
        "SELECT table_name, string_agg(column_name, ', ' ORDER BY column_index) "
        "FROM duckdb_columns() WHERE NOT internal GROUP BY 1 ORDER BY 1"
    ).fetchall()
    lines = [f"  {view}: {columns}" for view, columns in found]
    return "\n".join([f"The views of run {folder.run_id}:", *lines])


def records(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None = None
) -> list[dict[str, Any]]:
    """The rows of a query as dicts, nested values as Python's own."""
    found = connection.execute(sql, parameters or [])
    names = [column[0] for column in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
