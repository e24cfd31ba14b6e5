"""`clear.filter`, estimator `bsdetector`, with a scripted model and figures computed by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from stages.clear.filter.bsdetector import BsdetectorEmbeddingFilter, BsdetectorNliFilter
from stages.engines import Completion, Refused, Sampling, Usage

Chat = Sequence[Mapping[str, str]]
PARIS = [("user", "Capital of France?"), ("assistant", "Paris")]
LYON = [("user", "Second city of France?"), ("assistant", "Lyon.")]


def stage(**given: Any) -> BsdetectorNliFilter:
    return BsdetectorNliFilter(estimator="bsdetector", model="judge", nli="nli", **given)


class Script:
    """A model that replies by what is asked for, and remembers keys and temperatures.

    `samples` and `choices` hold, for a word of the question, the replies in turn. The reply `cut`
    was cut.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[str | Refused]],
        choices: Mapping[str, Sequence[str | Refused]],
        cut: str | None = None,
    ) -> None:
        self.cut = cut
        self.samples = {word: list(replies) for word, replies in samples.items()}
        self.choices = {word: list(replies) for word, replies in choices.items()}
        self.keys: list[bytes] = []
        self.temperatures: list[float] = []
        self.usage = Usage()
        self.notes: list[str] = []

    def probe(self) -> None: ...

    def close(self) -> None: ...

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling, keys: Sequence[bytes]
    ) -> list[list[Completion] | Refused]:
        self.keys.extend(keys)
        self.temperatures.extend([sampling.temperature] * len(chats))
        return [self._reply(chat, sampling.samples) for chat in chats]

    def _reply(self, chat: Chat, samples: int) -> list[Completion] | Refused:
        asked = " ".join(turn["content"] for turn in chat)
        script = self.choices if "proposed reply" in asked else self.samples
        waiting = next(replies for word, replies in script.items() if word in asked)
        replies = [waiting.pop(0) for _ in range(samples)]
        refused = [reply for reply in replies if isinstance(reply, Refused)]
        if refused:
            return refused[0]
        return [Completion(reply, len(reply.split()), reply != self.cut) for reply in replies]


def contradiction(premise: str, hypothesis: str) -> float:
    return {("Lyon", "Paris"): 0.9, ("Paris", "Lyon"): 0.7}.get((premise, hypothesis), 0.1)


def score(rows: Any, scored: Any, context: Any, model: Any, config: Any = None) -> dict[str, list]:
    ctx = context(judge=model, nli={"contradiction": contradiction})
    return scored(config or stage(samples=2), rows, ctx).to_pydict()


def test_consistency_reflection_and_confidence_by_hand(
    instructions: Any, scored: Any, context: Any
) -> None:
    model = Script(
        samples={"Capital": ["explanation: x\nanswer: Paris", "explanation: y\nanswer: Lyon"]},
        choices={"Capital": ["explanation: it is\nchoice: A", "explanation: hm\nchoice: C"]},
    )

    found = score(instructions(PARIS), scored, context, model)

    # Paris: s = 1 - 0.1 = 0.9, r = 1, o = 0.8 * 0.9 + 0.2 = 0.92
    # Lyon:  s = 1 - (0.9 + 0.7) / 2 = 0.2, r = 0, o = 0.16.   O = 0.54
    # S = (1 + 0.5) / 2 = 0.75;  c = 0.7 * 0.54 + 0.3 * 0.75 = 0.603
    # The NLI probabilities are float32: 0.9 is off by 2.4e-8.
    assert found == {
        "confidence": [pytest.approx(0.603, abs=3e-8)],
        "consistency": [pytest.approx(0.54, abs=3e-8)],
        "reflection": [0.75],
        "samples_lost": [0],
        "parse_failures": [0],
        "error": [None],
    }


def test_figures_that_float32_holds_come_out_to_the_ninth_digit(
    instructions: Any, scored: Any, context: Any
) -> None:
    model = Script(
        samples={"Capital": ["answer: Paris", "answer: Nice", "answer: Nice"]},
        choices={"Capital": ["choice: C", "choice: B"]},
    )
    ctx = context(
        judge=model,
        nli={"contradiction": lambda one, other: {"Nice": 0.75}.get(one, 0.25)},
    )

    found = scored(stage(samples=3), instructions(PARIS), ctx).to_pydict()

    # Paris: s = 0.75, o = 0.8; Nice, twice: s = (0.25 + 0.75) / 2, o = 0.4.  O = 1.6 / 3
    assert found["consistency"] == [pytest.approx(1.6 / 3, abs=1e-9)]
    assert found["reflection"] == [0.25]
    assert found["confidence"] == [pytest.approx(0.7 * 1.6 / 3 + 0.075, abs=1e-9)]


def test_equality_is_judged_after_the_same_stripping_on_both_sides(
    instructions: Any, scored: Any, context: Any
) -> None:
    model = Script(
        samples={"Second": ['answer: "Lyon"', "answer: lyon"]},
        choices={"Second": ["choice: A", "choice: A"]},
    )
    ctx = context(judge=model, nli={"contradiction": lambda one, other: 0.0})

    found = scored(stage(samples=2), instructions(LYON), ctx).to_pydict()

    assert found["consistency"] == [pytest.approx((1.0 + 0.8) / 2, abs=1e-9)]


def test_a_sample_without_an_answer_is_drawn_again_with_other_noise(
    instructions: Any, scored: Any, context: Any
) -> None:
    model = Script(
        samples={"Capital": ["I would say Paris", "answer: Paris", "answer: Paris"]},
        choices={"Capital": ["choice: A", "choice: A"]},
    )

    found = score(instructions(PARIS), scored, context, model)

    assert (found["samples_lost"], found["parse_failures"]) == ([0], [1])
    assert found["consistency"] == [pytest.approx(0.92, abs=1e-7)]
    assert len(set(model.keys)) == len(model.keys) == 4  # two reflections, the samples, one again


def test_a_sample_lost_twice_is_left_out_and_counted(
    instructions: Any, scored: Any, context: Any
) -> None:
    model = Script(
        samples={"Capital": ["no", "answer: Paris", "no again"]},
        choices={"Capital": ["choice: A", "choice: A"]},
    )

    found = score(instructions(PARIS), scored, context, model)

    assert (found["samples_lost"], found["parse_failures"]) == ([1], [2])
    assert found["consistency"] == [pytest.approx(0.92, abs=1e-7)]  # of the one sample that is left


def test_a_reflection_without_a_letter_is_asked_again_at_temperature_one(
    instructions: Any, scored: Any, context: Any
) -> None:
    model = Script(
        samples={"Capital": ["answer: Paris", "answer: Paris"]},
        choices={"Capital": ["It is right.", "choice: A", "choice: B"]},
    )

    found = score(instructions(PARIS), scored, context, model)

    assert (found["reflection"], found["parse_failures"]) == ([0.5], [1])
    assert model.temperatures == [0.0, 1.0, 0.0, 1.0]  # first, again, second, the samples


def test_a_reflection_that_was_cut_before_its_choice_is_asked_again(
    instructions: Any, scored: Any, context: Any
) -> None:
    cut = "explanation: for the second question the right answer is B"
    model = Script(
        samples={"Capital": ["answer: Paris", "answer: Paris"]},
        choices={"Capital": [cut, "choice: A", "choice: A"]},
        cut=cut,
    )

    found = score(instructions(PARIS), scored, context, model)

    assert (found["reflection"], found["parse_failures"]) == ([1.0], [1])


@pytest.mark.parametrize(
    ("samples", "choices", "error"),
    [
        (["a", "b", "c", "d"], ["choice: A", "choice: A"], "none of 2 samples gave an answer"),
        ([], ["hm", "hm"], "the reflection gave no letter"),
        ([], ["choice: A", "hm", "hm"], "the second reflection gave no letter"),
        ([], [Refused("9,000 tokens are too many")], "reflection: 9,000 tokens are too many"),
        ([Refused("no room"), "-"], ["choice: A", "choice: A"], "no room"),
    ],
)
def test_a_missing_component_is_an_error_of_that_row_alone(
    samples: list[str],
    choices: list[str],
    error: str,
    instructions: Any,
    scored: Any,
    context: Any,
) -> None:
    good = {"Second": ["answer: Lyon", "answer: Lyon"]}
    model = Script({"Capital": samples, **good}, {"Capital": choices, "Second": ["choice: A"] * 2})

    found = score(instructions(PARIS, LYON), scored, context, model)

    assert found["error"][0].startswith(error)
    assert found["error"][1] is None
    assert found["confidence"][0] is None
    assert found["confidence"][1] > 0.9


def test_an_expected_reflection_weighs_the_letters_and_generates_nothing(
    instructions: Any, scored: Any, context: Any
) -> None:
    seen: list[str] = []

    def choose(chat: Chat, options: Sequence[str]) -> list[float]:
        seen.append(chat[-2]["content"] if len(chat) > 1 else "")
        return [0.5, 0.25, 0.25] if len(chat) == 1 else [0.25, 0.75, 0.0]

    ctx = context(
        judge={"choose": choose, "generate": lambda chat, sampling, number: "answer: Paris"},
        nli={"contradiction": lambda one, other: 0.0},
    )

    found = scored(stage(reflection="expected"), instructions(PARIS), ctx).to_pydict()

    # (0.5 + 0.125 + 0.25) / 2
    assert found["reflection"] == [pytest.approx(0.4375, abs=1e-9)]
    assert seen == ["", "A"]  # the second question follows the most probable letter


def test_embeddings_can_stand_in_for_contradiction(
    instructions: Any, scored: Any, context: Any
) -> None:
    config = BsdetectorEmbeddingFilter(
        estimator="bsdetector", model="judge", contradiction="embedding", embedder="e", samples=2
    )
    model = Script(
        samples={"Capital": ["answer: Paris", "answer: Nice"]},
        choices={"Capital": ["choice: A", "choice: A"]},
    )
    ctx = context(judge=model, e={"embed": lambda text: [1, 0] if text == "Paris" else [0.6, 0.8]})

    found = scored(config, instructions(PARIS), ctx).to_pydict()

    # s = 1 and 0.6 (the cosine, in both directions); O = (1 + 0.48) / 2
    assert found["consistency"] == [pytest.approx(0.74, abs=1e-7)]


def test_equal_pairs_are_put_to_the_model_once(
    instructions: Any, scored: Any, context: Any
) -> None:
    asked: list[tuple[str, str]] = []
    ctx = context(
        judge={
            "generate": lambda chat, sampling, number: (
                "choice: A" if sampling.temperature == 0 else "answer: Nice"
            )
        },
        nli={"contradiction": lambda one, other: (asked.append((one, other)), 0.0)[1]},
    )

    scored(stage(samples=5), instructions(PARIS), ctx)

    assert asked == [("Nice", "Paris"), ("Paris", "Nice")]


def test_noise_keys_differ_between_rows(instructions: Any, scored: Any, context: Any) -> None:
    model = Script(samples={"France": ["answer: Paris"] * 4}, choices={"France": ["choice: A"] * 4})

    score(instructions(PARIS, LYON), scored, context, model)

    assert len(set(model.keys)) == len(model.keys) == 6


def test_probabilities_of_contradiction_are_read_in_order(context: Any) -> None:
    nli = context(nli={"contradiction": contradiction}).contradiction("nli")

    found = nli.probability([("Lyon", "Paris"), ("Paris", "Lyon")])

    assert np.allclose(found, [0.9, 0.7])
