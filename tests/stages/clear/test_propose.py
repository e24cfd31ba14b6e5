"""`clear.propose` with a scripted model."""

from typing import Any

import pytest

from stages.clear.propose import ClearPropose
from stages.engines import Chat, Refused, Sampling

STAGE = ClearPropose(model="tuned", max_tokens=3)
REPLIES = {
    "Capital of France?": " Paris\n",
    "Tell all.": "one two three four",
    "Say nothing.": " \n",
    "Too long.": Refused("the chat has 9,000 tokens, the model's context 2,048"),
}


@pytest.fixture
def ctx(context: Any) -> Any:
    return context(tuned={"generate": lambda chat, sampling, sample: REPLIES[chat[-1]["content"]]})


def test_the_candidate_is_what_the_model_says_and_every_row_is_kept(
    instructions: Any, curated: Any, ctx: Any
) -> None:
    rows = instructions(*[[("user", prompt), ("assistant", "old")] for prompt in list(REPLIES)[:2]])

    outcome = curated(STAGE, rows, ctx)

    assert outcome.scores.rows() == [
        ("Paris", 1, True, None),
        ("one two three", 3, False, None),
    ]
    assert outcome.kept() == ["r0", "r1"]


def test_a_row_without_a_candidate_has_a_reason(instructions: Any, scored: Any, ctx: Any) -> None:
    rows = instructions(
        [("user", "Say nothing."), ("assistant", "old")],
        [("user", "Too long."), ("assistant", "old")],
        [("user", "Nobody answers.")],
    )

    assert scored(STAGE, rows, ctx)["error"].to_pylist() == [
        "the model wrote nothing",
        "the chat has 9,000 tokens, the model's context 2,048",
        "there is no assistant turn",
    ]


def test_the_model_is_asked_greedily_for_the_turns_before_the_answer(
    instructions: Any, scored: Any, context: Any
) -> None:
    asked: list[tuple[Chat, Sampling]] = []
    ctx = context(
        seed=3,
        tuned={"generate": lambda *request: (asked.append(request[:2]), "hm")[1]},
    )
    rows = instructions(
        [
            ("system", "Be brief."),
            ("user", "One?"),
            ("assistant", "1"),
            ("user", "Two?"),
            ("assistant", "2"),
            ("user", "Thanks!"),
        ]
    )

    scored(STAGE, rows, ctx)

    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "1"), ("user", "Two?")]
    assert asked == [
        (
            tuple({"role": role, "content": content} for role, content in turns),
            Sampling(max_tokens=3, seed=3),
        )
    ]
