"""`clear.judge`: pairs of the row's own answer and the proposed one, as scores."""

import json
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from stages.catalog import AnyStage
from stages.clear.judge import ExpectedClearJudge, SampledClearJudge
from stages.engines import Chat, Need

EXPECTED = ExpectedClearJudge(judge="expected", model="base")
SAMPLED = SampledClearJudge(judge="sampled", model="base", samples=2)


def rows(instructions: Any, *pairs: tuple[str, str | None]) -> pa.Table:
    table = instructions(
        *[[("user", "Capital of France?"), ("assistant", answer)] for answer, _ in pairs]
    )
    candidates = pa.array([candidate for _, candidate in pairs], pa.string())
    return table.append_column("clear.propose.candidate", candidates)


def places(chat: Chat) -> tuple[str, str]:
    """The answers at A and B."""
    text = str(chat[0]["content"])
    first = text.split("[Answer A]\n")[1].split("\n[End of answer A]")[0]
    return first, text.split("[Answer B]\n")[1].split("\n[End of answer B]")[0]


def test_p_is_the_probability_of_the_candidates_letter_over_both_orders(
    instructions: Any, curated: Any, context: Any
) -> None:
    weights = {("Lyon", "Paris"): [1, 6, 1], ("Paris", "Lyon"): [5, 2, 1]}
    ctx = context(base={"choose": lambda chat, options: weights[places(chat)]})
    table = rows(instructions, ("Lyon", "Paris"), ("Paris", "Lyon"), ("Paris", " Paris."))

    outcome = curated(EXPECTED, table, ctx)

    assert outcome.scores.rows() == [
        (0.6875, "second", 0, None),
        (0.1875, "first", 0, None),
        (0.0, "same", 0, None),
    ]
    assert outcome.kept() == ["r0", "r1", "r2"]


def test_p_of_a_sampled_judge_is_the_confidence_that_the_candidate_is_better(
    instructions: Any, scored: Any, context: Any
) -> None:
    def reply(chat: Chat, sampling: Any, sample: int) -> str:
        letter = "AB"[places(chat).index("Paris")]
        if "Somebody gave this verdict" in str(chat[0]["content"]):
            return json.dumps({"explanation": "hm", "choice": "C"})
        return json.dumps({"explanation": "hm", "verdict": "C" if sample else letter})

    table = rows(instructions, ("Lyon", "Paris"), ("Paris", "Lyon"))

    found = scored(SAMPLED, table, context(base={"generate": reply}))

    # O = 1/2 (the second sample is a tie), S = 0.5, in both orders
    assert found.to_pylist() == [
        {"p": pytest.approx(0.5, abs=1e-9), "verdict": "second", "failures": 0, "error": None},
        {"p": 0.0, "verdict": "first", "failures": 0, "error": None},
    ]


def test_a_verdict_that_cannot_be_read_is_the_rows_error(
    instructions: Any, scored: Any, context: Any
) -> None:
    ctx = context(base={"generate": lambda chat, sampling, sample: "I like both."})

    found = scored(SAMPLED, rows(instructions, ("Lyon", "Paris")), ctx)

    assert found["p"].to_pylist() == [None]
    assert found["error"].to_pylist() == [
        "verdict: the reply is not what was asked for: there is no JSON object (asked twice)"
    ]


def test_it_reads_the_candidates_of_the_stage_that_it_names() -> None:
    stage = EXPECTED.model_copy(update={"proposals": "second.try"})

    assert stage.reads() == ("messages", "second.try.candidate")


@pytest.mark.parametrize(
    ("stage", "need"),
    [
        (EXPECTED, Need("base", frozenset({"choose"}), 2)),
        (SAMPLED, Need("base", frozenset({"generate"}), 10)),
    ],
)
def test_what_it_asks_of_its_model(stage: Any, need: Need) -> None:
    assert stage.needs() == (need,)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({}, "clear.judge needs 'judge: sampled' or 'judge: expected'"),
        ({"judge": "expected", "samples": 3}, "Extra inputs are not permitted"),
    ],
)
def test_a_line_that_fits_neither_way_is_refused(line: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(AnyStage).validate_python({"kind": "clear.judge", "model": "base", **line})
