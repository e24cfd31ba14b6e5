"""`uds.select`: scores as stored, verdicts as the selector would have them."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.engines import Geometry, Refused, Sketching
from stages.uds.picking import Measured
from stages.uds.select import UdsSelect
from stages.uds.selector import UtilityDiversitySelector
from stages.uds.sketch import LogitSketch

WIDTH = 16
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def drawn(seed: int, *, size: float = 1e6) -> Any:
    """A geometry for each chat, decided by the number at its end; equal numbers are equal rows."""

    def measure(chat: Any, *_: Any) -> Geometry:
        number = int(chat[-1]["content"].split()[-1])
        rng = np.random.default_rng([seed, number])
        sketch = (rng.normal(size=WIDTH) * size).astype(np.float32)
        return Geometry(float(rng.integers(100, 900)), sketch, int(rng.integers(5, 500)), cut=False)

    return measure


def chats(*numbers: int) -> list[Any]:
    return [[("user", "count"), ("assistant", f"number {number}")] for number in numbers]


def stage(**settings: Any) -> UdsSelect:
    return UdsSelect(model="judge", r_time=2, r_vocab=8, **settings)


def stored(outcome: Any) -> np.ndarray[Any, Any]:
    """The sketches as they come out of the store."""
    scaled = np.array(outcome.scores["sketch"].to_list(), np.float16).astype(np.float64)
    return scaled * outcome.scores["sketch_scale"].to_numpy()[:, None]


def pure(outcome: Any, keep: int, alpha: float, queue_size: int) -> dict[int, tuple[bool, float]]:
    """Row: (kept, score), as the selector has them on the same batches, in their order."""
    selector = UtilityDiversitySelector(
        np.ones((4, 1)), LogitSketch.draw(0, 4, 4, 2, 8), alpha, queue_size
    )
    sketches = stored(outcome).astype(np.float32)
    utility, batch = outcome.verdicts["utility"].to_numpy(), outcome.verdicts["batch"].to_numpy()
    found = {}
    for number in range(batch.max() + 1):
        (rows,) = np.nonzero(batch == number)
        picked = selector.picker.pick(
            Measured(utility[rows], sketches[rows], np.zeros(len(rows), bool)), keep
        )
        chosen = set(rows[picked.indices].tolist())
        found |= {row: (row in chosen, picked.score[at]) for at, row in enumerate(rows.tolist())}
    return found


@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    batch=st.integers(1, 9),
    share=st.floats(0, 1),
    queue_size=st.integers(1, 12),
)
def test_verdicts_in_batches_are_those_of_the_selector(
    seed: int,
    count: int,
    batch: int,
    share: float,
    queue_size: int,
    instructions: Any,
    curated: Any,
    context: Any,
) -> None:
    keep = max(1, round(share * batch))
    rows = instructions(*chats(*(at * 7 % 31 for at in range(count))))
    ctx = context(seed=seed, judge={"logit_geometry": drawn(seed)})

    rule = stage(batch=batch, keep=keep, alpha=1e-4, queue_size=queue_size)

    outcome = curated(rule, rows, ctx)

    expected = pure(outcome, keep, 1e-4, queue_size)
    verdicts = outcome.verdicts
    assert verdicts["id"].to_list() == rows["id"].to_pylist()
    assert verdicts["batch"].value_counts().sort("batch")["count"].to_list() == [
        min(batch, count - start) for start in range(0, count, batch)
    ]
    kept = (verdicts["verdict"] == "keep").to_list()
    assert kept == [expected[row][0] for row in range(count)]
    assert verdicts["score"].to_list() == [expected[row][1] for row in range(count)]
    assert sum(kept) == sum(min(keep, min(batch, count - s)) for s in range(0, count, batch))


@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    budget=st.integers(1, 50),
    keep=st.integers(1, 9),
)
def test_a_budget_is_kept_to_the_row_by_every_rule(
    seed: int, count: int, budget: int, keep: int, instructions: Any, curated: Any, context: Any
) -> None:
    rows = instructions(*chats(*range(count)))
    ctx = context(seed=seed, judge={"logit_geometry": drawn(seed)})

    verdicts = curated(stage(budget=budget, keep=keep), rows, ctx).verdicts

    assert verdicts["id"].to_list() == rows["id"].to_pylist()
    kept = verdicts.filter(verdict="keep")
    wanted = min(budget, count)
    assert kept.height == wanted
    assert kept["round"].to_list() != [None] * wanted
    assert verdicts["round"].null_count() == count - wanted
    for rule in ("random", "longest", "utility_only"):
        assert verdicts[rule].sum() == wanted


@pytest.fixture
def seven(instructions: Any, curated: Any, context: Any) -> Any:
    """The outcome for rows of utility 1 ... 7; even ones have one sketch, odd ones another."""

    def measure(chat: Any, *_: Any) -> Geometry:
        number = int(chat[-1]["content"].split()[-1])
        sketch = np.full(WIDTH, 1e6 if number % 2 else -1e6, np.float32)
        return Geometry(float(number), sketch, 100 - number, cut=False)

    def outcome(seed: int = 0, **settings: Any) -> Any:
        ctx = context(seed=seed, judge={"logit_geometry": measure})
        return curated(stage(**settings), instructions(*chats(1, 2, 3, 4, 5, 6, 7)), ctx)

    return outcome


def test_without_diversity_the_most_useful_of_the_set_are_kept(seven: Any) -> None:
    verdicts = seven(budget=3, keep=1, alpha=0).verdicts

    assert verdicts.filter(verdict="keep")["id"].to_list() == ["r4", "r5", "r6"]
    assert verdicts.filter("utility_only")["id"].to_list() == ["r4", "r5", "r6"]
    assert verdicts.filter("longest")["id"].to_list() == ["r0", "r1", "r2"]


def test_with_much_diversity_rows_unlike_the_kept_ones_are_taken_first(seven: Any) -> None:
    outcome = seven(budget=3, keep=1, alpha=1.0)

    # 7; then the far ones at a distance of 8e6, of which 6 is best; then all are as far: 5.
    told = {row: json.loads(evidence) for row, (_, _, evidence) in outcome.by_id().items()}
    assert told["r6"] == {"utility": 7, "diversity": 0, "score": 7, "round": 0}
    assert told["r5"] == {"utility": 6, "diversity": 8e6, "score": 8000006, "round": 1}
    assert told["r4"] == {"utility": 5, "diversity": 4e6, "score": 4000005, "round": 2}
    assert told["r0"]["round"] is None
    assert outcome.reasons() == dict.fromkeys(["r0", "r1", "r2", "r3"], "less_useful")


def test_a_batch_of_all_is_kept_whole(seven: Any) -> None:
    assert seven(batch=3, keep=3).kept() == ["r0", "r1", "r2", "r3", "r4", "r5", "r6"]


def test_among_equal_rows_the_first_are_kept(instructions: Any, curated: Any, context: Any) -> None:
    ctx = context(judge={"logit_geometry": drawn(0)})

    for rule in ({"batch": 6, "keep": 2}, {"budget": 2, "keep": 1}):
        outcome = curated(stage(**rule), instructions(*chats(*[4] * 6)), ctx)
        assert outcome.kept() == ["r0", "r1"]


def test_the_order_of_batches_follows_from_seed_and_id_alone(
    instructions: Any, curated: Any, context: Any
) -> None:
    def order(seed: int, numbers: range) -> list[str]:
        ctx = context(seed=seed, judge={"logit_geometry": drawn(0)})
        verdicts = curated(stage(batch=1, keep=1), instructions(*chats(*numbers)), ctx).verdicts
        return list(verdicts.sort("batch")["id"])

    whole = order(0, range(20))
    assert whole != [f"r{at}" for at in range(20)]
    assert order(1, range(20)) != whole
    assert order(0, range(12)) == [row for row in whole if int(row[1:]) < 12]


def test_sketches_beyond_the_range_of_float16_keep_their_distances(
    instructions: Any, curated: Any, context: Any
) -> None:
    for size in (1e-6, 1e9):
        ctx = context(judge={"logit_geometry": drawn(3, size=size)})
        outcome = curated(stage(), instructions(*chats(1, 2, 3)), ctx)
        measure = drawn(3, size=size)
        exact = np.stack(
            [measure([{"content": str(number)}]).sketch.astype(np.float64) for number in (1, 2, 3)]
        )
        lengths = np.linalg.norm(exact, axis=1)
        assert (np.linalg.norm(stored(outcome) - exact, axis=1) < 5e-4 * lengths).all()


def test_what_only_decides_costs_no_new_scores() -> None:
    free = stage(batch=9, keep=9, budget=7, alpha=3, queue_size=2, chunk_rows=1, on_drop="flag")
    assert free.scoring_config() == stage().scoring_config()
    assert stage(positions="answer").scoring_config() != stage().scoring_config()
    assert stage(sketch_seed=1).scoring_config() != stage().scoring_config()


def test_what_is_measured_is_the_chat_up_to_its_last_answer(
    instructions: Any, scored: Any, context: Any
) -> None:
    asked: list[Any] = []

    def measure(chat: Any, sketching: Sketching, positions: str) -> Any:
        asked.append(([(turn["role"], turn["content"]) for turn in chat], sketching, positions))
        return Refused("too long") if "long" in chat[0]["content"] else drawn(0)(chat)

    rows = instructions(
        [("user", "a"), ("assistant", "b 1"), ("user", "c"), ("assistant", "d 2"), ("user", "e")],
        [("user", "nobody answers")],
        [("user", "long"), ("assistant", "f 3")],
    )
    ctx = context(judge={"logit_geometry": measure})

    found = pl.DataFrame(scored(stage(positions="answer", max_length=77, sketch_seed=4), rows, ctx))

    assert asked == [
        (
            [("user", "a"), ("assistant", "b 1"), ("user", "c"), ("assistant", "d 2")],
            Sketching(4, 77, 2, 8),
            "answer",
        ),
        ([("user", "long"), ("assistant", "f 3")], Sketching(4, 77, 2, 8), "answer"),
    ]
    assert found["error"].to_list() == [None, "there is no assistant turn", "too long"]
    assert found.null_count().select("utility", "sketch", "tokens", "cut").row(0) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"batch": 8, "keep": 9}, "keep (9) is more than a batch holds (8)"),
        ({"budget": 0}, "greater than or equal to 1"),
        ({"alpha": float("inf")}, "finite number"),
        ({"positions": "all"}, "'real' or 'answer'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as refused:
        stage(**settings)
    assert problem in str(refused.value)


def test_a_round_may_take_more_than_a_batch_would_hold() -> None:
    assert stage(budget=100, keep=50).keep == 50
