"""Where a text stands: in what was printed, and in every file of a folder, whatever its form."""

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq


def spellings(secret: str) -> tuple[bytes, ...]:
    """As it stands, as JSON and URLs spell it, and as the base64 of it alone."""
    plain = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")}
    coded = base64.b64encode(secret.encode()).rstrip(b"=")
    return (*(text.encode() for text in sorted(plain)), coded)


def places_of(secret: str, printed: Mapping[str, str], *folders: Path) -> list[str]:
    """The names of printed texts, and of files below the folders, that hold `secret`."""
    wanted = spellings(secret)
    found = [name for name, text in printed.items() if holds(text.encode(), wanted)]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if holds(str(path.relative_to(folder)).encode(), wanted):
                found.append(f"the name {path}")
            if path.is_file() and any(holds(text, wanted) for text in contents(path)):
                found.append(str(path))
    return found


def holds(text: bytes, wanted: tuple[bytes, ...]) -> bool:
    return any(spelling in text for spelling in wanted)


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file and, where they are packed, what they stand for."""
    whole = path.read_bytes()
    yield whole
    if whole[:4] == b"PAR1":
        table = pq.read_table(path)
        for column in table.columns:
            for value in column.to_pylist():
                yield value if isinstance(value, bytes) else str(value).encode()
        for name, value in (table.schema.metadata or {}).items():
            yield name + value
    if whole[:15] == b"SQLite format 3":
        # A long text is spread over pages, so that its bytes need not stand together in the file.
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield from dumped(database)


def dumped(database: sqlite3.Connection) -> Iterator[bytes]:
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for row in database.execute(f'SELECT * FROM "{table}"'):
            for value in row:
                yield value if isinstance(value, bytes) else str(value).encode()
