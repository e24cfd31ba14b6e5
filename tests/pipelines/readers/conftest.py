"""Importing small files that a test writes out in full."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.readers.importing import import_source
from pipelines.readers.source import FileSource
from pipelines.store.tables import Table
from pipelines.store.workspace import Workspace

Import = Callable[..., "Imported"]


@dataclass(frozen=True)
class Imported:
    tables: list[Table]

    @property
    def table(self) -> Table:
        [table] = self.tables
        return table

    @property
    def rows(self) -> list[dict[str, Any]]:
        parts = [part for table in self.tables for part in table.parts]
        return [row for part in parts for row in pq.read_table(part).to_pylist()]

    @property
    def chats(self) -> list[list[tuple[str, str]]]:
        """(role, content) of every turn of every instruction row."""
        return [spoken(row["messages"]) for row in self.rows]

    @property
    def metas(self) -> list[Any]:
        return [json.loads(row["meta"]) for row in self.rows]

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Every failed record: reason and evidence together."""
        read = [row for table in self.tables for row in pq.read_table(table.failures).to_pylist()]
        return [{"reason": row["reason"], **json.loads(row["evidence"])} for row in read]

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(one["line"], one["reason"]) for one in self.failures]


def spoken(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in messages]


@pytest.fixture
def importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """`importing(bytes or list of records, name="rows.jsonl", **source)`, in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def run(
        content: bytes | list[Any], name: str = "rows.jsonl", limit: int | None = None, **said: Any
    ) -> Imported:
        if isinstance(content, list):
            content = b"".join(json.dumps(record).encode() + b"\n" for record in content)
        Path(name).write_bytes(content)
        source = FileSource(path=name, **said)
        return Imported(import_source(source, Workspace(tmp_path / "workspace"), limit=limit))

    return run
