"""The judge that explains, with a scripted engine: O, S and c by hand, and every way to fail."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipelines.engines.fake import FakeEngine
from stages.engines import Chat, Completion, Refused, Sampling
from stages.judging.judge import Judgement, Pair
from stages.judging.sampled import SampledJudging

PROMPT = ({"role": "user", "content": "Which?"},)
NONSENSE = "well, both have their merits"


def pair(first: str = "old", second: str = "new", key: bytes = b"k" * 16) -> Pair:
    return Pair(key, PROMPT, first, second)


def verdict(letter: str) -> str:
    return json.dumps({"explanation": "so it is", "verdict": letter})


def choice(letter: str) -> str:
    return json.dumps({"explanation": "so it is", "choice": letter})


class Script:
    """Replies in turn, by what is asked and by which answer stands at A.

    verdicts, samples, choices: for the answer at A the replies to come. Remembers requests.
    """

    def __init__(self, **replies: dict[str, list[str | Refused]]) -> None:
        self.replies = replies
        self.asked: list[tuple[str, str, Sampling, bytes]] = []
        self.engine = FakeEngine(generate=self._reply)

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        for chat, key in zip(chats, keys, strict=True):
            self.asked.append((self._what(chat, sampling), self._at_a(chat), sampling, key))
        return self.engine.generate(chats, sampling, keys)  # type: ignore[attr-defined]  # set per instance

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def _reply(self, chat: Chat, sampling: Sampling, sample: int) -> str | Refused:
        return self.replies[self._what(chat, sampling)][self._at_a(chat)].pop(0)

    @staticmethod
    def _what(chat: Chat, sampling: Sampling) -> str:
        if "Somebody gave this verdict" in str(chat[0]["content"]):
            return "choices"
        return "samples" if sampling.temperature else "verdicts"

    @staticmethod
    def _at_a(chat: Chat) -> str:
        text = str(chat[0]["content"])
        return text.split("[Answer A]\n")[1].split("\n[End of answer A]")[0]

    def kinds(self) -> list[str]:
        return [what for what, _, _, _ in self.asked]


Judge = Callable[..., list[Judgement | str]]


@pytest.fixture
def judged(context: Any) -> Judge:
    def judge(script: Script, *pairs: Pair, sides: Any = ("second",), **options: Any) -> Any:
        judging = SampledJudging(judge="sampled", **{"samples": 3, **options})
        return judging.compare(context(m=script, seed=7), "m", pairs, sides=sides)

    return judge


def script_for_new(**changed: Any) -> Script:
    """Prefers `new` in both orders; old at A: O = 2/3, S = 0.75; new at A: O = 1, S = 0.5."""
    replies: dict[str, Any] = {
        "verdicts": {"old": [verdict("B")], "new": [verdict("A")]},
        "samples": {
            "old": [verdict("B"), verdict("C"), verdict("B")],
            "new": [verdict("A")] * 3,
        },
        "choices": {"old": [choice("A"), choice("C")], "new": [choice("A"), choice("B")]},
    }
    return Script(**{**replies, **changed})


def test_o_s_and_c_to_the_ninth_digit(judged: Judge) -> None:
    # c = 0.7 * 2/3 + 0.3 * 0.75 = 0.691667 (old at A), 0.7 * 1 + 0.3 * 0.5 = 0.85 (new at A)
    expected = ((0.7 * 2 / 3 + 0.225) + 0.85) / 2

    (found,) = judged(script_for_new(), pair())

    assert found.verdict == "second"
    assert found.confidence == {"second": pytest.approx(expected, abs=1e-9)}
    assert found.failures == 0


def test_in_a_single_order_the_confidence_is_that_of_the_order(judged: Judge) -> None:
    (found,) = judged(script_for_new(), pair(), orders="single")

    assert found.confidence == {"second": pytest.approx(0.7 * 2 / 3 + 0.225, abs=1e-9)}


@pytest.mark.parametrize(
    ("choices", "reflection"),
    [
        ("AA", 1.0),
        ("AB", 0.5),
        ("AC", 0.75),
        ("BA", 0.5),
        ("BB", 0.0),
        ("BC", 0.25),
        ("CA", 0.75),
        ("CB", 0.25),
        ("CC", 0.5),
    ],
)
def test_a_choice_of_a_counts_one_b_nothing_c_half(
    judged: Judge, choices: str, reflection: float
) -> None:
    script = script_for_new(choices={"old": [choice(letter) for letter in choices]})

    (found,) = judged(script, pair(), orders="single", consistency_weight=0)

    assert found.confidence == {"second": pytest.approx(reflection, abs=1e-9)}


@pytest.mark.parametrize(
    ("old_at_a", "new_at_a", "outcome"),
    [("A", "B", "first"), ("C", "C", "tie"), ("A", "A", "split"), ("B", "C", "split")],
)
def test_where_the_wanted_side_has_not_won_it_is_not_asked_about(
    judged: Judge, old_at_a: str, new_at_a: str, outcome: str
) -> None:
    script = Script(verdicts={"old": [verdict(old_at_a)], "new": [verdict(new_at_a)]})

    assert judged(script, pair()) == [Judgement(outcome, {"second": 0.0}, 0)]
    assert script.kinds() == ["verdicts", "verdicts"]


def test_either_side_can_be_wanted(judged: Judge) -> None:
    replies = {
        "verdicts": {"old": [verdict("A")], "new": [verdict("B")]},
        "samples": {"old": [verdict("A")] * 3, "new": [verdict("B")] * 3},
        "choices": {"old": [choice("A")] * 2, "new": [choice("A")] * 2},
    }

    (found,) = judged(Script(**replies), pair(), sides=("first", "second"))

    assert found == Judgement("first", {"first": pytest.approx(1, abs=1e-9), "second": 0.0}, 0)


def test_equal_answers_cost_nothing(judged: Judge) -> None:
    assert judged(Script(), pair("old", ' "old." ')) == [Judgement("same", {"second": 0.0}, 0)]


def test_samples_that_cannot_be_read_twice_are_left_out_and_counted(judged: Judge) -> None:
    # A wrong reply is asked for once more: the first nonsense is mended, the second stays.
    samples = {
        "old": [verdict("B"), NONSENSE, NONSENSE, verdict("B"), NONSENSE],
        "new": [verdict("A")] * 3,
    }

    (found,) = judged(script_for_new(samples=samples), pair())

    # old at A: O = 2/2 of the two that are left
    assert found.confidence == {"second": pytest.approx(((0.7 + 0.225) + 0.85) / 2, abs=1e-9)}
    assert found.failures == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"verdicts": {"old": [NONSENSE] * 2, "new": [verdict("A")]}}, "verdict: the reply is not"),
        ({"verdicts": {"old": [Refused("9,000 tokens")], "new": [verdict("A")]}}, "verdict: 9,000"),
        (
            {"samples": {"old": [NONSENSE] * 6, "new": [verdict("A")] * 3}},
            "verdict samples: the reply is not",
        ),
        (
            {"choices": {"old": [NONSENSE] * 2, "new": [choice("A")] * 2}},
            "reflection: the reply is not",
        ),
        (
            {"choices": {"old": [choice("A"), NONSENSE, NONSENSE], "new": [choice("A")] * 2}},
            "second reflection: the reply is not",
        ),
    ],
)
def test_what_stays_missing_is_a_reason_and_no_number(
    judged: Judge, changed: dict[str, Any], reason: str
) -> None:
    (found,) = judged(script_for_new(**changed), pair())

    assert str(found).startswith(reason)


def test_no_samples_are_spent_on_a_pair_without_a_reflection(judged: Judge) -> None:
    script = script_for_new(choices={"old": [NONSENSE] * 2, "new": [NONSENSE] * 2})

    judged(script, pair())

    assert "samples" not in script.kinds()


def test_a_pair_that_fails_costs_the_others_nothing(judged: Judge) -> None:
    replies = {
        "verdicts": {
            "bad": [NONSENSE] * 2,
            "worse": [NONSENSE] * 2,
            "old": [verdict("B")],
            "new": [verdict("A")],
            "tie": [verdict("C")],
            "tie too": [verdict("C")],
        },
        "samples": {"old": [verdict("B")] * 3, "new": [verdict("A")] * 3},
        "choices": {"old": [choice("A")] * 2, "new": [choice("A")] * 2},
    }

    found = judged(Script(**replies), pair("bad", "worse"), pair("tie", "tie too"), pair())

    assert [one if isinstance(one, Judgement) else "none" for one in found] == [
        "none",
        Judgement("tie", {"second": 0.0}, 0),
        Judgement("second", {"second": pytest.approx(1, abs=1e-9)}, 0),
    ]


def test_every_request_has_noise_of_its_own_and_only_samples_are_warm(judged: Judge) -> None:
    script = script_for_new()

    judged(script, pair())

    assert script.kinds() == ["verdicts"] * 2 + ["choices"] * 4 + ["samples"] * 2
    assert len({key for _, _, _, key in script.asked}) == 8
    assert {what: sampling.temperature for what, _, sampling, _ in script.asked} == {
        "verdicts": 0,
        "choices": 0,
        "samples": 1,
    }
    assert {sampling.seed for _, _, sampling, _ in script.asked} == {7}


@pytest.mark.parametrize(("orders", "calls"), [("both", 16), ("single", 8)])
def test_what_a_pair_costs_at_most(orders: str, calls: int) -> None:
    judging = SampledJudging(judge="sampled", orders=orders)

    assert judging.calls_per_pair() == calls  # 1 verdict, 5 samples, 2 reflections an order
