"""One poison row costs one row; a dead engine costs none."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from unittest.mock import ANY

import pyarrow as pa
import pytest

from pipelines.runner.bisect import ChunkScorer
from pipelines.runner.errors import RunStopped
from stages.base import Stage
from stages.context import Context
from stages.engines import EngineError

Score = Callable[[list[str]], list[float | None]]


class Scripted(Stage, frozen=True):
    kind: Literal["test.scripted"] = "test.scripted"

    def reads(self) -> tuple[str, ...]:
        return ("text",)

    def scores(self) -> pa.Schema:
        return pa.schema([("value", pa.float64())])

    def score(self, rows: pa.Table, ctx: Context) -> pa.Table:
        values = ctx.engine("model")(rows["text"].to_pylist())
        return pa.table({"value": pa.array(values, pa.float64())})


@dataclass
class Engine:
    score: Score
    alive: bool = True
    asked: list[int] = field(default_factory=list)

    def __call__(self, texts: list[str]) -> list[float | None]:
        self.asked.append(len(texts))
        return self.score(texts)

    def probe(self) -> None:
        if not self.alive:
            raise EngineError("the engine is gone")


def rows(*texts: str) -> pa.Table:
    keys = pa.array([f"{n:016d}".encode() for n in range(len(texts))], pa.binary(16))
    return pa.table({"text": list(texts), "key": keys})


def scored(engine: Engine, *texts: str) -> list[tuple[float | None, str | None]]:
    ctx = Context(engine=lambda name: engine)
    records = ChunkScorer(Scripted(), ctx, engine.probe).score(rows(*texts))
    assert records["key"].to_pylist() == rows(*texts)["key"].to_pylist()
    return list(zip(records["value"].to_pylist(), records["error"].to_pylist(), strict=True))


def poisoned_by(*poison: str, kind: type[Exception] = ValueError) -> Score:
    def score(texts: list[str]) -> list[float | None]:
        for text in texts:
            if text in poison:
                raise kind(f"cannot read {text}")
        return [float(len(text)) for text in texts]

    return score


def test_a_sound_chunk_is_scored_in_one_call() -> None:
    engine = Engine(poisoned_by())
    assert scored(engine, "a", "bb", "ccc") == [(1.0, None), (2.0, None), (3.0, None)]
    assert engine.asked == [3]


def test_only_the_poison_row_fails_with_its_error() -> None:
    assert scored(Engine(poisoned_by("bad")), "a", "bb", "bad", "dddd") == [
        (1.0, None),
        (2.0, None),
        (None, "ValueError: cannot read bad"),
        (4.0, None),
    ]


def test_a_poison_row_in_a_chunk_of_its_own_fails() -> None:
    assert scored(Engine(poisoned_by("bad")), "bad") == [(None, "ValueError: cannot read bad")]


def test_an_engine_that_no_longer_answers_stops_the_run() -> None:
    engine = Engine(poisoned_by("bad", kind=RuntimeError), alive=False)
    with pytest.raises(RunStopped, match="EngineError: the engine is gone"):
        scored(engine, "a", "bad")


@pytest.mark.parametrize("kind", [EngineError, ConnectionError, TimeoutError, MemoryError])
def test_transient_errors_are_never_a_rows_fault(kind: type[Exception]) -> None:
    with pytest.raises(RunStopped, match="the same command goes on"):
        scored(Engine(poisoned_by("bad", kind=kind)), "a", "bad")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_disk_that_fails_is_never_a_rows_fault(code: int) -> None:
    def score(texts: list[str]) -> list[float | None]:
        raise OSError(code, os.strerror(code), "answers/aa.jsonl")

    engine = Engine(score)
    with pytest.raises(RunStopped) as raised:
        scored(engine, "a", "bad")
    assert f"{os.strerror(code)}: 'answers/aa.jsonl'\nIf it is full, make room" in str(raised.value)
    assert "the same command goes on" in str(raised.value)
    assert engine.asked == [2]  # nothing is paid for again


def test_a_file_that_a_row_names_and_that_is_not_there_is_the_rows_fault() -> None:
    assert scored(Engine(poisoned_by("bad", kind=FileNotFoundError)), "a", "bad")[1] == (
        None,
        "FileNotFoundError: cannot read bad",
    )


def test_rows_that_all_fail_alike_stop_the_run() -> None:
    def broken(texts: list[str]) -> list[float | None]:
        raise KeyError("tensor 7")

    engine = Engine(broken)
    with pytest.raises(RunStopped, match="all rows of a chunk fail alike: it is not the rows"):
        scored(engine, *(str(n) for n in range(1000)))
    assert len(engine.asked) < 100  # it does not try a thousand rows one by one


def test_what_stops_the_run_names_what_the_engine_was_stopped_by() -> None:
    """And not the row's error before it: a budget that is spent is not tried again."""
    gone = EngineError("the budget of this model is used up")

    def probe() -> None:
        raise gone

    engine = Engine(poisoned_by("x"))
    scorer = ChunkScorer(Scripted(), Context(engine=lambda name: engine), probe)
    with pytest.raises(RunStopped, match="budget of this model is used up") as stopped:
        scorer.score(rows("x"))
    assert stopped.value.__cause__ is gone


def picky(texts: list[str]) -> list[float | None]:
    if any(text.startswith("bad") for text in texts):
        raise ValueError("cannot read this")
    return [1.0] * len(texts)


@pytest.mark.parametrize("count", [2, 40])
def test_rows_that_all_fail_alike_are_failed_while_a_row_of_before_is_still_scored(
    count: int,
) -> None:
    engine = Engine(picky)
    bad = rows(*(f"bad {n}" for n in range(count)))
    scorer = ChunkScorer(
        Scripted(), Context(engine=lambda name: engine), engine.probe, lambda: rows("sound")
    )
    assert scorer.score(bad)["error"].to_pylist() == ["ValueError: cannot read this"] * count


def test_a_stage_that_no_longer_scores_a_row_of_before_stops_the_run() -> None:
    engine = Engine(picky)
    scorer = ChunkScorer(
        Scripted(), Context(engine=lambda name: engine), engine.probe, lambda: rows("bad now")
    )
    with pytest.raises(RunStopped, match="it is not the rows"):
        scorer.score(rows("bad 1", "bad 2"))


def test_many_poison_rows_at_the_start_do_not_hide_the_sound_rest() -> None:
    found = scored(Engine(picky), *(f"bad {n}" for n in range(40)), *(f"{n}" for n in range(60)))
    assert [error for _, error in found] == ["ValueError: cannot read this"] * 40 + [None] * 60


def test_two_rows_that_fail_differently_are_both_failed() -> None:
    assert scored(Engine(poisoned_by("x", "y")), "x", "y") == [
        (None, "ValueError: cannot read x"),
        (None, "ValueError: cannot read y"),
    ]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_null_or_non_finite_score_is_a_failure(value: float | None) -> None:
    def score(texts: list[str]) -> list[float | None]:
        return [value if text == "bad" else 1.0 for text in texts]

    assert scored(Engine(score), "a", "bad") == [
        (1.0, None),
        (ANY, "the score 'value' is null or not finite"),
    ]


def test_an_engine_that_has_gone_mad_stops_the_run() -> None:
    engine = Engine(lambda texts: [float("nan")] * len(texts))
    with pytest.raises(RunStopped, match="The error: the score 'value' is null or not finite"):
        scored(engine, "a", "b", "c")


def test_a_stage_that_gives_too_few_scores_is_at_fault_not_the_rows() -> None:
    with pytest.raises(RunStopped, match="gave 1 scores for 2 rows"):
        scored(Engine(lambda texts: [1.0]), "a", "b")
