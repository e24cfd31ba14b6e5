"""Small tables of instruction rows, and a stage whose scores a test scripts."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.runner.rowset import RowSet
from pipelines.store.tables import Table, open_table, writing
from pipelines.store.workspace import Workspace
from schemas.ids import content_of, row_id
from schemas.rows import row_schema

MakeTable = Callable[..., Table]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def make_table(workspace: Workspace) -> MakeTable:
    def make(
        key: str, answers: Iterable[str], *, rows_per_part: int = 3, meta: str = "{}"
    ) -> Table:
        rows = []
        seen: dict[bytes, int] = {}
        for place, answer in enumerate(answers):
            messages = [
                dict.fromkeys(["role", "content", "name", "tool_calls", "tool_call_id"])
                | {"role": role, "content": content}
                for role, content in (("user", "say it"), ("assistant", answer))
            ]
            content = content_of("instruction", [messages, None, None])
            occurrence = seen[content] = seen.get(content, -1) + 1
            rows.append(
                {
                    "id": row_id(content, occurrence),
                    "place": place,
                    "content": content,
                    "messages": messages,
                    "source": "rows.jsonl",
                    "parents": [],
                    "meta": meta,
                }
            )
        table = pa.Table.from_pylist(rows, schema=row_schema("instruction"))
        with writing(workspace, key, "instruction") as writer:
            for start in range(0, len(rows), rows_per_part):
                writer.add(table.slice(start, rows_per_part))
        made = open_table(workspace, key)
        assert made is not None
        return made

    return make


@pytest.fixture
def make_rows(make_table: MakeTable) -> Callable[..., RowSet]:
    def make(*answers: str, **options: object) -> RowSet:
        return RowSet([make_table("t", answers, **options)])

    return make
