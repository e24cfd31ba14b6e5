"""`uds.select` in a run: what is scored again, and what the verdicts hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.engines.fake import FakeEngine
from stages.engines import Chat, Engine, Geometry
from tests.pipelines.runner.curating import Bench, Judge, rows, write_jsonl

SELECT = {"kind": "uds.select", "model": "judge", "r_time": 2, "r_vocab": 4, "chunk_rows": 7}


def measured(chat: Chat) -> Geometry:
    text = str(chat[-1]["content"])
    rng = np.random.default_rng(list(text.encode()))
    sketch = (rng.normal(size=8) * 1e6).astype(np.float32)
    return Geometry(float(rng.uniform(1e3, 1e4)), sketch, len(text.split()), cut=False)


class Measuring(Judge):
    """A judge that measures logits, and remembers whose."""

    def open(self, config: object) -> Engine:
        return FakeEngine(logit_geometry=lambda chat, *_: self._answer(chat))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, stages=[SELECT])
    write_jsonl(made.source, rows(30))
    return made


def test_another_rule_of_selection_scores_nothing_anew(bench: Bench) -> None:
    judge = Measuring(measured)
    first = bench.run(judge)
    assert (first.stages[-1].counts.kept, first.stages[-1].counts.dropped) == (8, 22)
    assert first.stages[-1].reasons == {"less_useful": 22}

    kept = []
    for change in ({"alpha": 1.0}, {"batch": 5}, {"budget": 11}, {"queue_size": 3}):
        bench.stages = [{**SELECT, **change}]
        kept.append(bench.run(judge).stages[-1].counts.kept)
    assert kept == [8, 12, 11, 8]
    assert len(judge.asked) == 30
    bench.stages = [{**SELECT, "max_length": 9}]
    bench.run(judge)
    assert len(judge.asked) == 60


def test_the_verdicts_hold_what_other_rules_would_have_kept(bench: Bench) -> None:
    outcome = bench.run(Measuring(measured))

    (ledger,) = (bench.folder / "workspace" / "runs" / outcome.run_id).glob("*uds*.parquet")
    table: dict[str, Any] = pq.ParquetFile(ledger).read().to_pydict()
    assert table["verdict"].count("keep") == 8
    for rule in ("random", "longest", "utility_only"):
        assert table[rule].count(True) == 8
    best: dict[int, list[float]] = {}
    for batch, utility in zip(table["batch"], table["utility"], strict=True):
        best[batch] = sorted([*best.get(batch, []), utility])
    assert table["utility_only"] == [
        utility in best[batch][-2:]
        for batch, utility in zip(table["batch"], table["utility"], strict=True)
    ]


def test_rows_that_failed_are_in_no_batch(bench: Bench) -> None:
    def half(chat: Chat) -> Any:
        found = measured(chat)
        if "chapter 1" in str(chat[-1]["content"]):
            raise ValueError("hidden states of rows 0 of the batch hold NaN or inf")
        return found

    bench.options = {"max_failed": 0.5}
    outcome = bench.run(Measuring(half))

    counts = outcome.stages[-1].counts
    assert (counts.failed, counts.kept, counts.dropped) == (11, 6, 13)
    assert outcome.stages[-1].reasons == {"less_useful": 13, "error": 11}
