"""Verdicts: what decide sees, what fails before it, and that its answer is checked."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from pipelines.runner.conservation import ConservationError
from pipelines.runner.deciding import Deciding, Decision
from pipelines.runner.models import Models
from pipelines.runner.progress import Silent
from pipelines.runner.rowset import RowSet
from pipelines.runner.scoring import Scored, Scoring
from pipelines.store.scores import ScoreStore
from pipelines.store.workspace import Workspace
from schemas.errors import ContractError
from schemas.ledger import Counts
from stages.base import VECTOR, Stage
from stages.context import Context

Decide = Callable[[pl.LazyFrame, Context], Any]


class Scripted(Stage, frozen=True):
    """Scores the answer's length and a vector; decides as the test says."""

    kind: Literal["test.scripted"] = "test.scripted"
    with_vectors: bool = False
    wanted: tuple[str, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def consults(self) -> tuple[str, ...]:
        return self.wanted

    def scores(self) -> pa.Schema:
        vectors = [("vector", VECTOR)] if self.with_vectors else []
        return pa.schema([("length", pa.int64()), *vectors])

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        texts = [messages[-1]["content"] for messages in rows["messages"].to_pylist()]
        for text in texts:
            if text.startswith("poison"):
                raise ValueError(f"cannot read {text}")
        errors = ["too odd" if "odd" in text else None for text in texts]
        table = {"length": [len(text) for text in texts], "error": pa.array(errors, pa.string())}
        if self.with_vectors:
            numbers = np.array([[len(text), 1] for text in texts], np.float16)
            table["vector"] = pa.FixedSizeListArray.from_arrays(numbers.ravel(), 2)
        return pa.table(table)

    def decide(self, rows: pl.LazyFrame, ctx: Context) -> Any:
        return ctx.engine("decide")(rows, ctx)


def keep_all(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
    return rows.select(
        "id", verdict=pl.lit("keep"), reason=pl.lit(None, pl.String), evidence=pl.lit("{}")
    )


Run = Callable[..., Decision]


@pytest.fixture
def run(workspace: Workspace) -> Run:
    def decided(
        rows: RowSet,
        decide: Decide,
        stage: Stage | None = None,
        earlier: dict[str, Scored] | None = None,
    ) -> Decision:
        stage = stage or Scripted()
        ctx = Context(engine=lambda name: decide)
        store = ScoreStore(workspace.scores_of("s" + str(stage.model_dump())))
        models = Models({}, lambda config: config)
        scoring = Scoring(stage, "instruction", rows, store, ctx, models, Silent(), {})
        scored = scoring.run(retry_failed=False)
        return Deciding(stage, "instruction", rows, scored, earlier or {}, ctx).run()

    return decided


MakeRows = Callable[..., RowSet]


def test_verdicts_stand_in_order_of_place_with_counts_and_reasons(
    make_rows: MakeRows, run: Run
) -> None:
    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        short = pl.col("length") < 2
        return rows.sort("length", descending=True).select(
            "id",
            verdict=pl.when(short).then(pl.lit("drop")).otherwise(pl.lit("keep")),
            reason=pl.when(short).then(pl.lit("short")),
            evidence=pl.struct(length="length"),
            rank=pl.col("length").rank("ordinal"),
        )

    decision = run(make_rows("a", "bb", "odd", "dddd"), decide)
    assert decision.counts == Counts(rows_in=4, kept=2, dropped=1, failed=1)
    assert decision.reasons == {"error": 1, "short": 1}
    table = decision.verdicts.drop_columns(["id"]).to_pylist()
    assert table == [
        {"place": 0, "verdict": "drop", "reason": "short", "evidence": '{"length":1}', "rank": 1},
        {"place": 1, "verdict": "keep", "reason": None, "evidence": '{"length":2}', "rank": 2},
        {
            "place": 2,
            "verdict": "fail",
            "reason": "error",
            "evidence": '{"error":"too odd"}',
            "rank": None,
        },
        {"place": 3, "verdict": "keep", "reason": None, "evidence": '{"length":4}', "rank": 3},
    ]


def test_decide_can_read_the_rows_own_columns(make_rows: MakeRows, run: Run) -> None:
    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        answer = pl.col("messages").list.last().struct.field("content")
        return rows.select(
            "id",
            verdict=pl.lit("keep"),
            reason=pl.lit(None, pl.String),
            evidence=pl.struct(answer=answer),
        )

    decision = run(make_rows("a", "odd", "bb"), decide)
    assert decision.verdicts["evidence"].to_pylist() == [
        '{"answer":"a"}',
        '{"error":"too odd"}',
        '{"answer":"bb"}',
    ]


def test_vectors_come_as_a_matrix_of_the_rows_that_decide_sees(
    make_rows: MakeRows, run: Run
) -> None:
    seen: list[list[list[float]]] = []

    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        seen.append(ctx.matrix("vector").tolist())
        return keep_all(rows, ctx)

    run(make_rows("a", "odd", "bb", "ccc", "bb"), decide, Scripted(with_vectors=True))
    assert seen == [[[1, 1], [2, 1], [3, 1], [2, 1]]]


def test_a_row_that_raises_costs_the_vectors_of_no_other(make_rows: MakeRows, run: Run) -> None:
    seen: list[list[list[float]]] = []

    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        seen.append(ctx.matrix("vector").tolist())
        return keep_all(rows, ctx)

    decision = run(make_rows("poison", "a", "bb"), decide, Scripted(with_vectors=True))
    assert seen == [[[1, 1], [2, 1]]]
    assert decision.counts == Counts(rows_in=3, kept=2, dropped=0, failed=1)


@pytest.mark.parametrize("chunk_rows", [1, 2])
def test_chunks_without_any_vector_are_decided_beside_the_others(
    make_rows: MakeRows, run: Run, chunk_rows: int
) -> None:
    seen: list[list[list[float]]] = []

    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        seen.append(ctx.matrix("vector").tolist())
        return keep_all(rows, ctx)

    stage = Scripted(with_vectors=True, chunk_rows=chunk_rows)
    decision = run(make_rows("poison", "poison 2", "a", "bb"), decide, stage)
    assert seen == [[[1, 1], [2, 1]]]
    assert decision.reasons == {"error": 2}


def test_no_rows_at_all_are_decided_too(make_rows: MakeRows, run: Run) -> None:
    assert run(make_rows(), keep_all).counts == Counts(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("decide", "problem"),
    [
        (lambda rows, ctx: keep_all(rows, ctx).drop("evidence"), "column 'evidence' is missing"),
        (
            lambda rows, ctx: keep_all(rows, ctx).with_columns(verdict=pl.lit("maybe")),
            r"verdicts are keep, drop or fail, not \['maybe'\]",
        ),
        (
            lambda rows, ctx: keep_all(rows, ctx).with_columns(verdict=pl.lit("drop")),
            "a drop or fail has no reason",
        ),
        (
            lambda rows, ctx: keep_all(rows, ctx).with_columns(evidence=pl.lit(None, pl.String)),
            "evidence is null",
        ),
    ],
)
def test_an_answer_that_breaks_the_contract_is_refused(
    make_rows: MakeRows, run: Run, decide: Decide, problem: str
) -> None:
    with pytest.raises(ContractError, match=problem):
        run(make_rows("a", "bb"), decide)


def test_a_stage_that_loses_a_row_is_caught(make_rows: MakeRows, run: Run) -> None:
    with pytest.raises(ConservationError, match="1 lost"):
        run(make_rows("a", "bb"), lambda rows, ctx: keep_all(rows, ctx).head(1))


def test_a_stage_that_gives_a_row_twice_is_caught(make_rows: MakeRows, run: Run) -> None:
    def twice(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        decided = keep_all(rows, ctx)
        return pl.concat([decided.head(1), decided.head(1)])

    with pytest.raises(ConservationError, match="1 ids more than once"):
        run(make_rows("a", "bb"), twice)


def test_a_stage_may_ask_which_rows_an_earlier_one_has_flagged(
    make_rows: MakeRows, run: Run
) -> None:
    rows = make_rows("a", "bb", "ccc", "dddd")
    verdicts = pa.table({"place": [1, 2, 3], "verdict": ["drop", "keep", "drop"]})
    rows.apply("clear.filter", "instruction", verdicts, flagging=True)

    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        return keep_all(rows, ctx).join(
            rows.select("id", *stage.wanted), on="id", maintain_order="left"
        )

    stage = Scripted(wanted=("clear.filter.flagged", "clean.rules.flagged"))
    decision = run(rows, decide, stage)
    # The first row the filter has not seen; the rules have flagged none.
    assert decision.verdicts["clear.filter.flagged"].to_pylist() == [False, True, False, True]
    assert decision.verdicts["clean.rules.flagged"].to_pylist() == [False] * 4


def test_consulted_scores_of_earlier_stages_come_along(
    make_rows: MakeRows, run: Run, workspace: Workspace
) -> None:
    rows = make_rows("a", "bb")
    first = Scripted(name="first")
    store = ScoreStore(workspace.scores_of("first"))
    models = Models({}, lambda config: config)
    scoring = Scoring(first, "instruction", rows, store, Context(), models, Silent(), {})
    earlier = {"first": scoring.run(retry_failed=False)}

    def decide(rows: pl.LazyFrame, ctx: Context) -> pl.LazyFrame:
        return (
            keep_all(rows, ctx)
            .with_columns(evidence=pl.lit("{}"))
            .join(rows.select("id", earlier="first.length"), on="id", maintain_order="left")
        )

    decision = run(rows, decide, Scripted(wanted=("first.length",)), earlier)
    assert decision.verdicts["earlier"].to_pylist() == [1, 2]
