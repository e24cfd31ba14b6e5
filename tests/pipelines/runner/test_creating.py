"""New rows: their ids, lineage and places, made once."""

from collections.abc import Callable
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pytest

from pipelines.runner.creating import Creating
from pipelines.runner.deciding import Deciding
from pipelines.runner.keys import creating_key
from pipelines.runner.rowset import PLACES_PER_TABLE, RowSet
from pipelines.store.tables import Table, open_table, writing
from pipelines.store.workspace import Workspace
from schemas.errors import ContractError
from schemas.ids import content_of, created_row_id
from stages.base import Stage
from stages.context import Context


def message(role: str, content: str) -> dict[str, str | None]:
    fields = dict.fromkeys(["role", "content", "name", "tool_calls", "tool_call_id"])
    return fields | {"role": role, "content": content}


class Shout(Stage, frozen=True):
    """Revises each row whose answer is short: the new row says it in capitals, twice."""

    kind: Literal["test.shout"] = "test.shout"
    ending: str = ""
    samples: tuple[int, ...] = (1, 0)

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        answer = pl.col("messages").list.last().struct.field("content")
        short = answer.str.len_chars() < 3
        return rows.select(
            "id",
            verdict=pl.when(short).then(pl.lit("drop")).otherwise(pl.lit("keep")),
            reason=pl.when(short).then(pl.lit("revised")),
            evidence=pl.lit("{}"),
        )

    def create(self, rows: pa.Table, ctx: Context) -> pa.Table | None:
        ctx.engine("counter").append(rows.num_rows)
        made: list[dict[str, Any]] = []
        for row in rows.to_pylist():
            if row["reason"] != "revised":
                continue
            for sample in self.samples:
                text = row["messages"][-1]["content"].upper() * (sample + 1) + self.ending
                messages = [message("user", "say it"), message("assistant", text)]
                made.append(
                    {
                        "messages": messages,
                        "tools": None,
                        "label": None,
                        "parents": [row["id"]],
                        "sample": sample,
                    }
                )
        return pl.DataFrame(made).to_arrow() if made else None


def create(
    rows: RowSet, workspace: Workspace, calls: list[int], stage: Shout | None = None, seed: int = 0
) -> Table | None:
    ctx = Context(engine=lambda name: calls)
    stage = stage or Shout()
    key = creating_key(stage, {}, seed)
    decision = Deciding(stage, "instruction", rows, None, {}, ctx).run()
    return Creating(stage, "instruction", rows, workspace, ctx, key).run(decision)


def test_new_rows_have_lineage_and_stand_after_all_others(
    make_rows: Callable[..., RowSet], workspace: Workspace
) -> None:
    rows = make_rows("long enough", "b", "a")
    parents = rows.scan("instruction").collect()["id"].to_list()
    made = create(rows, workspace, [])
    assert made is not None
    rows.add(made)
    new = rows.scan("instruction").filter(pl.col("place") >= PLACES_PER_TABLE).collect()
    assert new["messages"].list.last().struct.field("content").to_list() == ["B", "BB", "A", "AA"]
    assert new["place"].to_list() == [PLACES_PER_TABLE + n for n in range(4)]
    assert new["parents"].to_list() == [[parents[1]], [parents[1]], [parents[2]], [parents[2]]]
    assert new["source"].to_list() == ["test.shout"] * 4
    assert new["id"][1] == created_row_id("test.shout", [parents[1]], 1)
    messages = [message("user", "say it"), message("assistant", "BB")]
    assert new["content"][1] == content_of("instruction", [messages, None, None])


def test_the_same_rows_are_made_once(
    make_rows: Callable[..., RowSet], workspace: Workspace
) -> None:
    rows, calls = make_rows("a", "b"), []
    first = create(rows, workspace, calls)
    asked = list(calls)
    assert create(rows, workspace, calls) == first
    assert calls == asked


def test_a_stage_may_find_nothing_to_make(
    make_rows: Callable[..., RowSet], workspace: Workspace
) -> None:
    assert create(make_rows("long enough"), workspace, []) is None


def test_another_config_or_seed_makes_other_rows(
    make_rows: Callable[..., RowSet], workspace: Workspace
) -> None:
    rows, calls = make_rows("a"), []
    made = [
        create(rows, workspace, calls),
        create(rows, workspace, calls, Shout(ending="!")),
        create(rows, workspace, calls, seed=1),
    ]
    assert len({table.key for table in made if table is not None}) == 3


def test_rows_of_the_same_ids_and_other_texts_make_other_rows(
    make_table: Callable[..., Table], workspace: Workspace
) -> None:
    def under_one_id(key: str, answer: str) -> RowSet:
        rows = pl.read_parquet(make_table(f"of-{key}", [answer]).parts).with_columns(id=pl.lit("1"))
        with writing(workspace, key, "instruction") as writer:
            writer.add(rows.to_arrow())
        table = open_table(workspace, key)
        assert table is not None
        return RowSet([table])

    made = [create(under_one_id(answer, answer), workspace, []) for answer in ("a", "b")]
    assert [table and pl.read_parquet(table.parts).height for table in made] == [2, 2]
    assert made[0] != made[1]


def test_two_new_rows_of_one_name_are_refused(
    make_rows: Callable[..., RowSet], workspace: Workspace
) -> None:
    with pytest.raises(ContractError, match=r"parents and sample .* stand there 2 times"):
        create(make_rows("a"), workspace, [], Shout(samples=(0, 0)))


def test_new_rows_are_made_again_when_their_table_has_lost_its_manifest(
    make_rows: Callable[..., RowSet], workspace: Workspace
) -> None:
    rows, calls = make_rows("a"), []
    first = create(rows, workspace, calls)
    assert first is not None
    (first.folder / "manifest.json").unlink()
    assert create(rows, workspace, calls) == first
