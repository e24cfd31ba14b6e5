"""The judge by probabilities, with a scripted engine and figures computed by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from stages.engines import Chat, Refused
from stages.judging.expected import ExpectedJudging
from stages.judging.judge import Judgement, Pair

PROMPT = ({"role": "user", "content": "Which?"},)
BOTH = ExpectedJudging(judge="expected")
SINGLE = ExpectedJudging(judge="expected", orders="single")
Weights = Mapping[str, Sequence[float]]  # by the answer that stands at A


def pair(first: str = "old", second: str = "new") -> Pair:
    return Pair(b"k" * 16, PROMPT, first, second)


def at_a(chat: Chat) -> str:
    text = str(chat[-1]["content"])
    return text.split("[Answer A]\n")[1].split("\n[End of answer A]")[0]


@pytest.fixture
def judged(context: Any) -> Callable[..., list[Judgement | str]]:
    def judge(judging: ExpectedJudging, weights: Weights, *pairs: Pair, **options: Any) -> Any:
        ctx = context(m={"choose": lambda chat, options: weights[at_a(chat)]})
        return judging.compare(ctx, "m", pairs, **options)

    return judge


def test_the_confidence_is_the_probability_of_its_letter_averaged_over_the_orders(judged) -> None:
    # old at A: B (new) has 0.5; new at A: A (new) has 0.75. Powers of two: float32 holds them.
    weights = {"old": [0.25, 0.5, 0.25], "new": [0.75, 0.125, 0.125]}

    assert judged(BOTH, weights, pair()) == [
        Judgement("second", {"first": 0.1875, "second": 0.625}, 0)
    ]


def test_a_judge_that_always_prefers_the_first_place_is_split_and_not_sure(judged) -> None:
    weights = {"old": [0.75, 0.25, 0], "new": [0.75, 0.25, 0]}

    assert judged(BOTH, weights, pair()) == [Judgement("split", {"first": 0.5, "second": 0.5}, 0)]


def test_in_a_single_order_the_first_answer_is_a(judged) -> None:
    weights = {"old": [0.125, 0.75, 0.125]}

    assert judged(SINGLE, weights, pair()) == [
        Judgement("second", {"first": 0.125, "second": 0.75}, 0)
    ]


@pytest.mark.parametrize(
    ("old_at_a", "new_at_a", "verdict"),
    [
        ([4, 2, 2], [2, 4, 2], "first"),
        ([2, 4, 2], [4, 2, 2], "second"),
        ([2, 2, 4], [2, 2, 4], "tie"),
        ([2, 2, 4], [4, 2, 2], "split"),
        ([4, 2, 2], [4, 2, 2], "split"),
    ],
)
def test_the_verdict_is_the_most_probable_letter_of_both_orders(
    judged, old_at_a, new_at_a, verdict
) -> None:
    (found,) = judged(BOTH, {"old": old_at_a, "new": new_at_a}, pair())

    assert found.verdict == verdict


@pytest.mark.parametrize("other", ["old", " old\n", '"old"', "**old**", "old."])
def test_equal_answers_are_the_same_and_nobody_is_asked(judged, other) -> None:
    assert judged(BOTH, {}, pair("old", other)) == [
        Judgement("same", {"first": 0.0, "second": 0.0}, 0)
    ]


def test_results_stand_in_the_order_of_the_pairs(judged) -> None:
    weights = {"old": [1, 6, 1], "new": [6, 1, 1]}

    found = judged(BOTH, weights, pair("new", "old"), pair("x", "x"), pair("old", "new"))

    assert [one.verdict for one in found] == ["first", "same", "second"]


def test_a_pair_that_the_model_cannot_take_has_a_reason_and_the_others_a_judgement(
    judged,
) -> None:
    weights = {"old": [1, 6, 1], "new": [6, 1, 1], "long": Refused("9,000 tokens")}

    found = judged(BOTH, weights, pair("long", "old"), pair())

    assert found == [
        "verdict: 9,000 tokens",
        Judgement("second", {"first": 0.125, "second": 0.75}, 0),
    ]


def test_only_the_wanted_side_is_told(judged) -> None:
    weights = {"old": [1, 6, 1], "new": [6, 1, 1]}

    assert judged(BOTH, weights, pair(), sides=("second",))[0].confidence == {"second": 0.75}


@pytest.mark.parametrize(("judging", "calls"), [(BOTH, 2), (SINGLE, 1)])
def test_a_pair_costs_a_call_for_each_order(judging, calls, context) -> None:
    ctx = context(m={"choose": lambda chat, options: [1, 1, 1]})

    judging.compare(ctx, "m", [pair()])

    assert ctx.engine("m").usage.calls == calls == judging.calls_per_pair()
