from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from pipelines.exporters.export import write_export
from pipelines.exporters.provenance import Input, Provenance, StageCounts
from pipelines.exporters.report import ExportReport
from pipelines.exporters.spec import EXPORT
from schemas.ids import MESSAGE_FIELDS, content_of, row_id
from schemas.ledger import Counts
from schemas.rows import CONTENT, MESSAGES, RowType, row_schema

MakeRows = Callable[..., pl.LazyFrame]
Turn = Mapping[str, Any]


def _turns(turns: Sequence[Turn] | None) -> list[dict[str, Any]] | None:
    if turns is None:
        return None
    return [{field: turn.get(field) for field in MESSAGE_FIELDS} for turn in turns]


@pytest.fixture
def rows() -> MakeRows:
    """Canonical rows from dicts of the columns that matter to a test."""

    def make(*given: Mapping[str, Any], row_type: RowType = "instruction") -> pl.LazyFrame:
        schema = row_schema(row_type)
        table = []
        for place, row in enumerate(given):
            row = {name: row.get(name) for name in schema.names}
            for field in schema:
                if field.type == MESSAGES:
                    row[field.name] = _turns(row[field.name])
            content = content_of(row_type, [row[name] for name in CONTENT[row_type]])
            found = {"id": row_id(content, 0), "content": content, "place": place, "parents": []}
            table.append({**row, **{k: v for k, v in found.items() if row[k] is None}})
        return pl.LazyFrame(pl.from_arrow(pa.Table.from_pylist(table, schema=schema)))

    return make


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        run_id="5f3a",
        recipe={"source": {"path": "talk.jsonl"}, "seed": 7},
        inputs=(Input("talk.jsonl", "ab12", "messages", 9, 1),),
        engines={"judge": {"kind": "transformers", "weights": "53aa"}},
        versions={"winnow": "0.1.0"},
        stages=(StageCounts("clean.rules", Counts(9, 6, 3, 0), {"empty": 2, "refusal": 1}),),
    )


@pytest.fixture
def export(tmp_path: Path, provenance: Provenance) -> Callable[..., ExportReport]:
    """Export rows as a recipe would have it; `path` is relative to the test's folder."""

    def run(
        rows: pl.LazyFrame, *, row_type: RowType = "instruction", **options: Any
    ) -> ExportReport:
        known = {k: options.pop(k) for k in ("opener", "origin", "seed") if k in options}
        spec = EXPORT.validate_python({**options, "path": tmp_path / options["path"]})
        return write_export(
            rows,
            row_type,
            spec,
            known.pop("origin", provenance),
            seed=known.pop("seed", 0),
            **known,
        )

    return run


USER = {"role": "user", "content": "Was ist 2 + 2?"}
ANSWER = {"role": "assistant", "content": 'Vier. "4" \\ 4️⃣\n\u2028\x00'}
CALLS = '[{"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]'


@pytest.fixture
def talk(rows: MakeRows) -> pl.LazyFrame:
    """Six rows: plain, with a system turn, of several turns, with tools, labelled, named."""
    return rows(
        {"messages": [USER, ANSWER], "meta": '{"topic":"maths","n":9007199254740993}'},
        {"messages": [{"role": "system", "content": "Be brief."}, USER, ANSWER], "meta": "{}"},
        {"messages": [USER, ANSWER, {"role": "user", "content": "Sure?"}, ANSWER], "meta": "{}"},
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": CALLS},
                {"role": "tool", "content": "4", "tool_call_id": "c1", "name": "add"},
                ANSWER,
            ],
            "tools": '[{"name":\n "add"}]',
            "meta": '{"topic":null}',
        },
        {"messages": [USER, {"role": "assistant", "content": ""}], "label": False, "meta": "{}"},
        {"messages": [{**USER, "name": "Ada"}, ANSWER], "meta": "{}"},
    )
