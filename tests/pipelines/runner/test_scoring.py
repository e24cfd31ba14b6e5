"""Which rows are scored, in which chunks, and what the next run still has to do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pyarrow as pa
import pytest

from pipelines.runner.errors import RunStopped
from pipelines.runner.models import Models
from pipelines.runner.progress import Silent
from pipelines.runner.rowset import RowSet
from pipelines.runner.scoring import Scored, Scoring
from pipelines.store.scores import ScoreStore
from pipelines.store.workspace import Workspace
from stages.base import Stage
from stages.context import Context
from stages.engines import EngineError


class Length(Stage, frozen=True):
    kind: Literal["test.length"] = "test.length"
    chunk_rows: int = 2
    accepts: ClassVar = ("instruction",)

    def reads(self) -> tuple[str, ...]:
        return ("messages",)

    def scores(self) -> pa.Schema:
        return pa.schema([("length", pa.int64())])

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        answers = [messages[-1]["content"] for messages in rows["messages"].to_pylist()]
        return pa.table({"length": ctx.engine("model")(answers)})


class WithTopic(Length, frozen=True):
    kind: Literal["test.topic"] = "test.topic"  # type: ignore[assignment]

    def reads(self) -> tuple[str, ...]:
        return ("messages", "meta.topic")

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        return pa.table({"length": ctx.engine("model")(rows["meta.topic"].to_pylist())})


class Doubled(Length, frozen=True):
    kind: Literal["test.doubled"] = "test.doubled"  # type: ignore[assignment]

    def reads(self) -> tuple[str, ...]:
        return ("test.length.length",)

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        return pa.table({"length": [2 * n for n in rows["test.length.length"].to_pylist()]})


@dataclass
class Counting:
    """Scores texts by length and remembers what it was asked."""

    chunks: list[list[str]] = field(default_factory=list)
    dies_after: int = 10**9
    bad: frozenset[str] = frozenset()

    def __call__(self, texts: list[str]) -> list[int]:
        if len(self.chunks) >= self.dies_after:
            raise EngineError("killed")
        if self.bad & set(texts):
            raise ValueError("bad text")
        self.chunks.append(texts)
        return [len(text) for text in texts]

    @property
    def asked(self) -> list[str]:
        return [text for chunk in self.chunks for text in chunk]


Score = Callable[..., Scored]


@pytest.fixture
def score(workspace: Workspace) -> Score:
    def run(
        rows: RowSet,
        engine: Counting,
        stage: Stage | None = None,
        *,
        retry: bool = False,
        earlier: dict[str, Scored] | None = None,
    ) -> Scored:
        stage = stage or Length()
        store = ScoreStore(workspace.scores_of(stage.kind))
        ctx = Context(engine=lambda name: engine)
        models = Models({}, lambda config: config)
        scoring = Scoring(stage, "instruction", rows, store, ctx, models, Silent(), earlier or {})
        return scoring.run(retry_failed=retry)

    return run


MakeRows = Callable[..., RowSet]


def lengths(scored: Scored) -> list[int | None]:
    records = scored.store.records(scored.parts, ["length"])
    assert records is not None
    by_key = {row["key"]: row["length"] for row in records.collect().iter_rows(named=True)}
    return [by_key[key] for key in scored.keys["key"]]


def test_chunks_are_cut_in_order_across_parts(make_rows: MakeRows, score: Score) -> None:
    engine = Counting()
    scored = score(make_rows("a", "bb", "ccc", "dddd", "eeeee"), engine)
    assert engine.chunks == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
    assert lengths(scored) == [1, 2, 3, 4, 5]


def test_equal_contents_are_scored_once(make_rows: MakeRows, score: Score) -> None:
    engine = Counting()
    scored = score(make_rows("a", "bb", "a", "a"), engine)
    assert engine.asked == ["a", "bb"]
    assert lengths(scored) == [1, 2, 1, 1]


def test_a_second_run_scores_nothing(make_rows: MakeRows, score: Score) -> None:
    rows = make_rows("a", "bb", "ccc")
    score(rows, Counting())
    engine = Counting()
    scored = score(rows, engine)
    assert engine.asked == []
    assert scored.computed == 0
    assert lengths(scored) == [1, 2, 3]


def test_a_run_that_died_goes_on_where_whole_chunks_end(make_rows: MakeRows, score: Score) -> None:
    rows = make_rows("a", "bb", "ccc", "dddd", "eeeee")
    with pytest.raises(RunStopped):
        score(rows, Counting(dies_after=1))
    engine = Counting()
    scored = score(rows, engine)
    assert engine.chunks == [["ccc", "dddd"], ["eeeee"]]
    assert lengths(scored) == [1, 2, 3, 4, 5]


def test_only_the_new_rows_of_a_grown_table_are_scored(
    make_table: Callable[..., object], score: Score
) -> None:
    score(RowSet([make_table("old", ["a", "bb"])]), Counting())
    engine = Counting()
    score(RowSet([make_table("grown", ["new", "a", "bb"])]), engine)
    assert engine.asked == ["new"]


def test_rows_that_are_gone_are_not_scored(make_rows: MakeRows, score: Score) -> None:
    rows = make_rows("a", "bb", "ccc")
    rows.remove("instruction", rows.scan("instruction").collect()["place"].to_numpy()[1:2])
    engine = Counting()
    assert lengths(score(rows, engine)) == [1, 3]
    assert engine.asked == ["a", "ccc"]


def test_a_final_error_is_kept_until_it_is_retried(make_rows: MakeRows, score: Score) -> None:
    rows = make_rows("a", "bb", "ccc")
    assert lengths(score(rows, Counting(bad=frozenset({"bb"})))) == [1, None, 3]
    again = Counting()
    assert lengths(score(rows, again)) == [1, None, 3]
    assert again.asked == []
    retried = Counting()
    assert lengths(score(rows, retried, retry=True)) == [1, 2, 3]
    assert retried.asked == ["bb"]


def test_a_stage_that_reads_meta_is_keyed_by_what_it_reads(
    make_table: Callable[..., object], score: Score
) -> None:
    engine = Counting()
    rows = RowSet([make_table("t", ["a", "b"], meta='{"topic": "chess"}')])
    assert lengths(score(rows, engine, WithTopic())) == [5, 5]
    assert engine.asked == ["chess", "chess"]
    other = Counting()
    same = RowSet([make_table("u", ["a", "b"], meta='{"topic": "chess", "extra": 1}')])
    score(same, other, WithTopic())
    assert other.asked == []


def test_a_stage_reads_scores_of_an_earlier_one(make_rows: MakeRows, score: Score) -> None:
    rows = make_rows("a", "bb", "ccc")
    earlier = {"test.length": score(rows, Counting())}
    assert lengths(score(rows, Counting(), Doubled(), earlier=earlier)) == [2, 4, 6]
