"""Tables and JSON on stdout. A terminal gets lines and colours, a pipe gets aligned plain text."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

# From pyarrow and DuckDB come bytes (keys) and times; scripts get hex and ISO 8601.
Cell = object


def print_json(value: Any) -> None:
    """One JSON value, indented; bytes as hex."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    typer.echo(orjson.dumps(value, default=as_json, option=options).decode())


def json_line(value: object) -> str:
    """One JSON value in one line; bytes as hex, numbers that JSON cannot hold as null."""
    import json

    import orjson

    try:
        return orjson.dumps(value, default=as_json, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # an integer above 64 bits, or a key that is no scalar
        return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    """`value` in the types that every JSON encoder knows."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else cell_text(key): _plain(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    return as_json(value)


def as_json(value: object) -> object:
    """What orjson cannot write by itself."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Columns of numbers stand to the right."""
    texts = [[cell_text(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(_is_number(row[n]) for row in rows) for n in range(len(columns))]
    if sys.stdout is not None and sys.stdout.isatty():  # None: closed by whoever called
        _print_rich(columns, texts, right)
    else:
        for line in plain_table(columns, texts, right):
            typer.echo(line)


def plain_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool]
) -> list[str]:
    """Lines of aligned text, the names of the columns first."""
    lines = [list(columns), *(list(row) for row in texts)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]


def cell_text(value: Cell) -> str:
    """A cell in one line: nothing for null, thousands apart, hex for bytes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | tuple):
        return json_line(value)
    return " ".join(str(value).split())


def print_pairs(pairs: Mapping[str, Cell]) -> None:
    """`name  value` lines."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        typer.echo(f"{name.ljust(width)}  {cell_text(value)}")


def _is_number(value: Cell) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _print_rich(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name, to_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if to_right else "left", overflow="fold")
    for row in texts:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)
