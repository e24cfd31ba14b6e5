"""Rows to run stages on, and a driver that scores and decides as the runner does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from pipelines.engines.fake import FakeEngine
from pipelines.engines.neighbours import NumpyNeighbours
from schemas.ids import digest
from schemas.rows import RowType, row_schema
from stages.base import Stage
from stages.context import Context

Turns = Sequence[tuple[str, str | None] | Mapping[str, str | None]]
FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")


def turn(given: tuple[str, str | None] | Mapping[str, str | None]) -> dict[str, str | None]:
    """A message with all its fields from (role, content) or from those that are set."""
    found = dict(given) if isinstance(given, Mapping) else dict(zip(FIELDS, given, strict=False))
    return {field: found.get(field) for field in FIELDS}


def _table(row_type: RowType, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = row_schema(row_type)
    full = [
        {name: row.get(name) for name in schema.names}
        | {
            "id": row.get("id", f"r{place}"),
            "place": place,
            "content": digest(place, repr(sorted(row.items()))),
            "source": "test",
            "parents": [],
            "meta": "{}",
        }
        for place, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=schema)


def make_instructions(*conversations: Turns, tools: Sequence[str | None] = ()) -> pa.Table:
    """Instruction rows r0, r1, ... of these turns."""
    return _table(
        "instruction",
        [
            {
                "messages": [turn(one) for one in turns],
                "tools": tools[place] if place < len(tools) else None,
            }
            for place, turns in enumerate(conversations)
        ],
    )


def make_preferences(*triples: tuple[str, str, str]) -> pa.Table:
    """Preference rows of (prompt, chosen, rejected)."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return _table(
        "preference",
        [
            {
                name: [turn((role, text))]
                for (name, role), text in zip(roles.items(), row, strict=True)
            }
            for row in triples
        ],
    )


def make_documents(*texts: str) -> pa.Table:
    """Documents of these texts."""
    rows = [{"uri": f"doc/{place}", "title": "", "text": text} for place, text in enumerate(texts)]
    return _table("document", rows)


@dataclass(frozen=True)
class Outcome:
    """What a stage made of its rows: scores (with `error`) in order, verdicts of those decided."""

    scores: pl.DataFrame
    verdicts: pl.DataFrame

    def by_id(self) -> dict[str, tuple[str, str | None, str]]:
        columns = self.verdicts.select("id", "verdict", "reason", "evidence")
        return {row[0]: row[1:] for row in columns.iter_rows()}

    def kept(self) -> list[str]:
        return self.verdicts.filter(pl.col("verdict") == "keep")["id"].to_list()

    def reasons(self) -> dict[str, str]:
        gone = self.verdicts.filter(pl.col("verdict") != "keep")
        return dict(gone.select("id", "reason").iter_rows())


def score_rows(stage: Stage, rows: pa.Table, ctx: Context) -> pa.Table:
    """The scores and `error` of the rows, seen as `score` sees them; `error` alone for a stage that
    only decides.
    """
    if not stage.scores().names:
        return pa.table({"error": pa.nulls(rows.num_rows, pa.string())})
    seen = rows.select(list(stage.reads())).append_column("key", rows["content"])
    scored = stage.for_scoring().score(seen, ctx)
    if "error" not in scored.column_names:
        scored = scored.append_column("error", pa.nulls(rows.num_rows, pa.string()))
    return scored


def run(stage: Stage, rows: pa.Table, ctx: Context | None = None) -> Outcome:
    """Score all rows at once, then decide on those without an error."""
    ctx = ctx or Context(neighbours=NumpyNeighbours)
    scored = score_rows(stage, rows, ctx)
    good = [error is None for error in scored["error"].to_pylist()]
    whole = pa.array(good, pa.bool_())
    alive, scores = rows.filter(whole), scored.filter(whole)
    columns = [
        name
        for name in stage.scores().names
        if not pa.types.is_list(stage.scores().field(name).type)
    ]

    def matrix(column: str) -> Any:
        return np.array(scores[column].to_pylist(), dtype=np.float16).reshape(
            scores.num_rows, -1 if scores.num_rows else 1
        )

    seen = pl.DataFrame(alive).hstack(pl.DataFrame(scores.select(columns)))
    decided = stage.decide(seen.lazy(), replace(ctx, matrix=matrix)).lazy().collect()
    return Outcome(pl.DataFrame(scored), decided)


@pytest.fixture
def instructions() -> Callable[..., pa.Table]:
    return make_instructions


@pytest.fixture
def preferences() -> Callable[..., pa.Table]:
    return make_preferences


@pytest.fixture
def documents() -> Callable[..., pa.Table]:
    return make_documents


@pytest.fixture
def curated() -> Callable[..., Outcome]:
    return run


@pytest.fixture
def scored() -> Callable[..., pa.Table]:
    return score_rows


@pytest.fixture
def context() -> Callable[..., Context]:
    """A context over fake engines made of these functions, one per model name."""

    def make(seed: int = 0, **models: Any) -> Context:
        engines = {
            name: FakeEngine(**given) if isinstance(given, dict) else given
            for name, given in models.items()
        }
        return Context.of(engines, seed=seed, neighbours=NumpyNeighbours)

    return make
