from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pytest

from pipelines.audit.sample import draw, plant_kinds, planted_table, stored
from pipelines.runner.rowset import RowSet
from pipelines.store.tables import Table, open_table, writing
from pipelines.store.workspace import Workspace
from schemas.ids import content_of
from schemas.rows import CONTENT, MESSAGE, row_schema

MakeRows = Callable[[int], RowSet]


def messages(*turns: tuple[str, str]) -> list[dict[str, str | None]]:
    empty = dict.fromkeys([field.name for field in MESSAGE])
    return [{**empty, "role": role, "content": content} for role, content in turns]


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def make_rows(workspace: Workspace) -> MakeRows:
    """Rows of two tables, the first of three rows."""

    def make(count: int) -> RowSet:
        rows = [
            {
                "id": f"row {n}",
                "place": n if n < 3 else n - 3,
                "messages": messages(
                    ("system", "Be brief."),
                    ("user", f"What is {n} and {n}?"),
                    ("assistant", f"It is {2 * n}, as everybody who can add two numbers knows."),
                    ("user", "Thanks."),
                ),
                "source": "rows.jsonl",
                "parents": [],
                "meta": f'{{"n": {n}}}',
            }
            for n in range(count)
        ]
        for row in rows:
            row["content"] = content_of("instruction", [row["messages"], None, None])
        return RowSet([_table(workspace, "one", rows[:3]), _table(workspace, "two", rows[3:])])

    return make


def _table(workspace: Workspace, key: str, rows: list) -> Table:
    with writing(workspace, key, "instruction") as writer:
        writer.add(pa.Table.from_pylist(rows, schema=row_schema("instruction")))
    table = open_table(workspace, key)
    assert table is not None
    return table


def test_sample_and_candidates_share_no_row_and_keep_the_order(make_rows: MakeRows) -> None:
    sample = draw(make_rows(40), 10, 5, seed=1)

    clean, others = (
        [int(one.split()[1]) for one in table["id"].to_pylist()]
        for table in (sample.clean, sample.candidates)
    )
    assert (len(clean), clean, others) == (10, sorted(clean), sorted(others))
    assert sorted([*clean, *others]) == list(range(40))


def test_the_sample_follows_from_the_seed(make_rows: MakeRows) -> None:
    rows = make_rows(40)

    first, again, other = (draw(rows, 10, 5, seed) for seed in (1, 1, 2))

    assert first == again
    assert first.clean["id"] != other.clean["id"]


@pytest.mark.parametrize(
    ("rows", "clean", "others"), [(40, 20, 20), (28, 20, 8), (25, 17, 8), (10, 5, 5), (1, 1, 0)]
)
def test_of_few_rows_some_are_kept_to_be_spoiled(
    make_rows: MakeRows, rows: int, clean: int, others: int
) -> None:
    sample = draw(make_rows(rows), 20, 8, seed=0)

    assert (sample.clean.num_rows, sample.candidates.num_rows) == (clean, others)


def test_no_rows_give_an_empty_sample() -> None:
    sample = draw(RowSet(), 20, 8, seed=0)

    assert (sample.clean.num_rows, sample.candidates.num_rows) == (0, 0)


def test_rows_as_they_are_keep_all_but_their_place(make_rows: MakeRows) -> None:
    rows = make_rows(12)

    sample = draw(rows, 6, 3, seed=0)

    before = rows.scan("instruction").collect()
    kept = before.filter(pl.col("id").is_in(sample.clean["id"].to_pylist()))
    assert pl.DataFrame(sample.clean).drop("place").equals(kept.drop("place"))
    assert sample.clean["place"].to_pylist() == list(range(6))


def test_a_bad_row_is_a_copy_with_another_answer_and_its_row_as_parent(make_rows) -> None:
    candidates = draw(make_rows(12), 6, 3, seed=0).candidates
    (planting,) = plant_kinds(candidates, ("number",), 3, seed=0)

    rows = planted_table(candidates, planting).to_pylist()

    before = {row["id"]: row for row in candidates.to_pylist()}
    assert [row["place"] for row in rows] == [0, 1, 2]
    for row, planted in zip(rows, planting.rows, strict=True):
        parent = before[planted.candidate.id]
        assert row == {
            **parent,
            "id": row["id"],
            "place": row["place"],
            "parents": [parent["id"]],
            "messages": [
                *parent["messages"][:2],
                {**parent["messages"][2], "content": planted.answer},
                parent["messages"][3],
            ],
            "content": content_of("instruction", [row[name] for name in CONTENT["instruction"]]),
        }
        assert row["id"] not in before
        assert row["content"] != parent["content"]


def test_kinds_that_share_a_row_give_it_ids_of_their_own(make_rows: MakeRows) -> None:
    candidates = draw(make_rows(8), 4, 4, seed=0).candidates
    plantings = plant_kinds(candidates, ("echo", "truncated"), 4, seed=0)

    ids = [
        one
        for planting in plantings
        for one in planted_table(candidates, planting)["id"].to_pylist()
    ]

    assert len(set(ids)) == 8


def test_a_table_that_is_there_is_not_written_again(workspace: Workspace, make_rows) -> None:
    clean = draw(make_rows(8), 4, 4, seed=0).clean

    first = stored(workspace, "clean", clean)
    written = first.parts[0].stat()
    again = stored(workspace, "clean", clean)

    assert again == first
    assert again.parts[0].stat() == written
