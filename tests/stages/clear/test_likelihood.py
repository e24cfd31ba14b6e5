"""`clear.filter`, estimator `likelihood`, with a scripted model."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from stages.clear.filter.likelihood import LikelihoodFilter
from stages.engines import Refused
from stages.keep import KeepAbove

STAGE = LikelihoodFilter(estimator="likelihood", model="judge")
QUESTION = [("user", "Capital of France?"), ("assistant", "Paris")]


def model(chat: Sequence[Mapping[str, str]]) -> list[float] | Refused:
    """Knows the capital of France; anything else is as likely with as without its prompt."""
    asked = " ".join(turn["content"] for turn in chat[:-1] if turn["role"] == "user")
    if "too long" in asked:
        return Refused("the chat has 9,000 tokens, the model's context 2,048")
    if chat[-1]["content"] == "certain":
        return [0.0, 0.0]
    if chat[-1]["content"] == "Paris" and "France" in asked:
        return [-0.25, -0.5, -0.75]
    return [-1.0, -2.0, -3.0]


@pytest.fixture
def ctx(context: Any) -> Any:
    return context(judge={"log_probs": model})


def test_the_confidence_is_one_minus_the_ratio_of_the_means(
    instructions: Any, curated: Any, ctx: Any
) -> None:
    rows = instructions(QUESTION, [("user", "Capital of France?"), ("assistant", "Bananas")])

    scores = curated(STAGE, rows, ctx).scores

    assert scores.rows() == [
        (pytest.approx(0.75, abs=1e-9), -0.5, -2.0, 3, False, None),
        (pytest.approx(0.0, abs=1e-9), -2.0, -2.0, 3, False, None),
    ]


def test_rows_above_the_threshold_are_kept(instructions: Any, curated: Any, ctx: Any) -> None:
    rows = instructions(QUESTION, [("user", "Capital of France?"), ("assistant", "Bananas")])
    stage = STAGE.model_copy(update={"keep": KeepAbove(above=0)})

    assert curated(stage, rows, ctx).by_id() == {
        "r0": ("keep", None, '{"value":0.75,"threshold":0.0}'),
        "r1": ("drop", "low_confidence", '{"value":0.0,"threshold":0.0,"ties":1}'),
    }


def test_the_emptied_chat_keeps_the_system_turn_and_has_one_empty_message(
    instructions: Any, curated: Any, context: Any
) -> None:
    chats: list[list[tuple[str, str]]] = []

    def remember(chat: Sequence[Mapping[str, str]]) -> list[float]:
        chats.append([(turn["role"], turn["content"]) for turn in chat])
        return [-1.0]

    turns = [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hi"),
        ("user", "Bye"),
        ("assistant", "See you"),
        ("user", "Thanks"),
    ]
    curated(STAGE, instructions(turns), context(judge={"log_probs": remember}))

    assert chats == [turns[:5], [("system", "Be brief."), ("user", ""), ("assistant", "See you")]]


def test_an_answer_cut_at_the_limit_is_flagged(instructions: Any, curated: Any, ctx: Any) -> None:
    stage = STAGE.model_copy(update={"max_answer_tokens": 2})

    scores = curated(stage, instructions(QUESTION), ctx).scores

    assert scores.select("log_prob", "log_prob_empty", "tokens", "cut").rows() == [
        (-0.375, -1.5, 2, True)
    ]


@pytest.mark.parametrize(
    ("turns", "error"),
    [
        (
            [("user", "too long"), ("assistant", "a")],
            "the chat has 9,000 tokens, the model's context",
        ),
        ([("user", "sure?"), ("assistant", "certain")], "the answer is certain without its prompt"),
        ([("user", "Hello?")], "there is no assistant turn"),
        ([("system", "Be brief."), ("assistant", "Hi")], "there is no turn to answer"),
    ],
)
def test_a_row_without_a_confidence_has_an_error_and_its_neighbour_none(
    turns: list[tuple[str, str]], error: str, instructions: Any, curated: Any, ctx: Any
) -> None:
    outcome = curated(STAGE, instructions(turns, QUESTION), ctx)

    assert outcome.scores["error"][0].startswith(error)
    assert outcome.scores["confidence"].to_list() == [None, pytest.approx(0.75, abs=1e-9)]


def test_an_answer_that_calls_a_tool_is_judged_by_the_text_of_its_call(
    instructions: Any, curated: Any, context: Any
) -> None:
    answers: list[str] = []
    ctx = context(
        judge={"log_probs": lambda chat: (answers.append(chat[-1]["content"]), [-1.0])[1]}
    )
    call = {"role": "assistant", "content": None, "tool_calls": '[{"function":{"name":"f"}}]'}

    curated(STAGE, instructions([("user", "Rain?"), call]), ctx)

    assert answers == ['[{"function":{"name":"f"}}]'] * 2
