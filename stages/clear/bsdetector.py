"""Estimator `bsdetector`: does the model answer alike, and does it call the answer correct?

Each function takes the targets of a chunk, puts all their requests to the engine together, and
gives one result for each target, in order: a value, or a text that says why there is none.

Source: Chen & Mueller 2024, https://arxiv.org/abs/2308.16175, with the data's answer in the place
of the reference answer (arXiv 2403.12776); it is never replaced by a sampled one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.ids import digest
from stages.clear.confidence import (
    LETTER_VALUES,
    expected_value,
    observed_consistency,
    self_reflection,
    similarity,
)
from stages.clear.outcomes import for_sound
from stages.clear.parsing import answer_of, letter_of, stripped
from stages.clear.prompts import (
    CHOOSE,
    EXPLAIN_AND_CHOOSE,
    Turn,
    reflection_prompt,
    sample_prompt,
    second_reflection_prompt,
)
from stages.clear.target import Target
from stages.engines import Chooser, Completion, Embedder, Generator, Refused, Sampling

Probabilities = npt.NDArray[np.float32]
Contradicts = Callable[[Sequence[tuple[str, str]]], Probabilities]


@dataclass(frozen=True)
class Samples:
    """Answers of the model's own. lost: samples without one; failures: replies without one."""

    answers: tuple[str, ...]
    lost: int
    failures: int


@dataclass(frozen=True)
class Reflection:
    """value: 0-1. failures: replies in which no letter could be read."""

    value: float
    failures: int


def noise_key(target: Target, purpose: str, number: int = 0) -> bytes:
    """Keys the noise of one request: other purposes and repeats of a row get other noise."""
    return digest(target.key.hex(), purpose, number)


def sampled_answers(
    engine: Generator, targets: Sequence[Target], sampling: Sampling
) -> list[Samples | str]:
    """`sampling.samples` answers for each target; a reply without one is sampled again, once."""
    chats = [sample_prompt(target.prompt) for target in targets]
    keys = [noise_key(target, "sample") for target in targets]
    replies = engine.generate(chats, sampling, keys)
    first = [
        [] if isinstance(found, Refused) else [answer_of(one.text) for one in found]
        for found in replies
    ]
    # The missing ones of all rows in one call, each a chat of its own under a key of its own.
    missing = [
        (row, number)
        for row, answers in enumerate(first)
        for number, answer in enumerate(answers)
        if answer is None
    ]
    failures = [answers.count(None) for answers in first]
    if missing:
        again = engine.generate(
            [chats[row] for row, _ in missing],
            replace(sampling, samples=1),
            [noise_key(targets[row], "sample again", number) for row, number in missing],
        )
        for (row, number), found in zip(missing, again, strict=True):
            first[row][number] = None if isinstance(found, Refused) else answer_of(found[0].text)
    return [
        _samples(found, answers, failed)
        for found, answers, failed in zip(replies, first, failures, strict=True)
    ]


def _samples(
    found: list[Completion] | Refused, answers: list[str | None], failures: int
) -> Samples | str:
    if isinstance(found, Refused):
        return found.reason
    got = tuple(answer for answer in answers if answer is not None)
    lost = len(answers) - len(got)
    if not got:
        return f"none of {len(answers)} samples gave an answer, each tried twice"
    return Samples(got, lost, failures + lost)


def consistencies(
    contradicts: Contradicts, observed: Sequence[tuple[str, Samples]], similarity_weight: float
) -> list[float]:
    """O for each (target answer, samples). Both directions go to `contradicts`, once each."""
    pairs = dict.fromkeys(
        pair
        for target, samples in observed
        for answer in samples.answers
        for pair in ((answer, target), (target, answer))
    )
    found = contradicts(list(pairs)).tolist()
    probability = dict(zip(pairs, found, strict=True))
    return [
        observed_consistency(
            [
                similarity(probability[answer, target], probability[target, answer])
                for answer in samples.answers
            ],
            [answer == stripped(target) for answer in samples.answers],
            similarity_weight,
        )
        for target, samples in observed
    ]


def dissimilarity(embedder: Embedder, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
    """1 - cosine of the two texts of each pair, clipped to 0-1: float32 (pairs,)."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return np.zeros(0, np.float32)
    number = {text: at for at, text in enumerate(texts)}
    vectors = embedder.embed(texts).astype(np.float64)
    left = vectors[[number[text] for text, _ in pairs]]
    right = vectors[[number[text] for _, text in pairs]]
    contradicting: npt.NDArray[np.float64] = np.clip(1 - (left * right).sum(axis=1), 0, 1)
    return contradicting.astype(np.float32)


def sampled_reflections(
    engine: Generator, targets: Sequence[Target], sampling: Sampling
) -> list[Reflection | str]:
    """S for each target from two explained choices, greedy.

    A reply without a letter is asked for once more, at temperature 1, since the greedy one would be
    the same. Where a letter stays missing there is no reflection.
    """
    asked = [
        _Asked(target, reflection_prompt(target.prompt, target.answer, EXPLAIN_AND_CHOOSE))
        for target in targets
    ]
    first = _chosen(engine, asked, sampling, "reflection")

    def doubted(choices: list[_Choice]) -> list[Reflection | str]:
        again = [
            _Asked(
                choice.asked.target,
                second_reflection_prompt(choice.asked.chat, choice.reply, EXPLAIN_AND_CHOOSE),
            )
            for choice in choices
        ]
        second = _chosen(engine, again, sampling, "second reflection")
        return [_reflected(*both) for both in zip(choices, second, strict=True)]

    return for_sound(first, doubted)


@dataclass(frozen=True)
class _Asked:
    target: Target
    chat: list[Turn]


@dataclass(frozen=True)
class _Choice:
    asked: _Asked
    reply: str
    value: float
    failures: int


def _reflected(first: _Choice, second: _Choice | str) -> Reflection | str:
    if isinstance(second, str):
        return second
    return Reflection(self_reflection(first.value, second.value), first.failures + second.failures)


def _chosen(
    engine: Generator, asked: Sequence[_Asked], sampling: Sampling, purpose: str
) -> list[_Choice | str]:
    keys = [noise_key(one.target, purpose) for one in asked]
    replies = engine.generate([one.chat for one in asked], sampling, keys)
    choices = [_choice(*both, purpose, 0) for both in zip(asked, replies, strict=True)]
    missing = [row for row, choice in enumerate(choices) if choice is None]
    if missing:
        replies = engine.generate(
            [asked[row].chat for row in missing],
            replace(sampling, temperature=1.0),
            [noise_key(asked[row].target, purpose, 1) for row in missing],
        )
        for row, reply in zip(missing, replies, strict=True):
            choices[row] = _choice(asked[row], reply, purpose, 1)
    return [
        f"the {purpose} gave no letter, tried twice" if choice is None else choice
        for choice in choices
    ]


def _choice(
    asked: _Asked, found: list[Completion] | Refused, purpose: str, failures: int
) -> _Choice | str | None:
    """The choice in a reply, why there is no reply, or None for a reply without a letter."""
    if isinstance(found, Refused):
        return f"{purpose}: {found.reason}"
    reply = found[0]
    letter = letter_of(reply.text, finished=reply.finished)
    return None if letter is None else _Choice(asked, reply.text, LETTER_VALUES[letter], failures)


def expected_reflections(engine: Chooser, targets: Sequence[Target]) -> list[Reflection | str]:
    """S for each target from the probabilities of the three letters; no text is generated.

    The second question follows the letter that was most probable in the first.
    """
    letters = list(LETTER_VALUES)
    chats = [reflection_prompt(target.prompt, target.answer, CHOOSE) for target in targets]
    first = [
        f"reflection: {found.reason}" if isinstance(found, Refused) else (chat, found)
        for chat, found in zip(chats, engine.choose(chats, letters), strict=True)
    ]

    def doubted(sound: list[tuple[list[Turn], Probabilities]]) -> list[Reflection | str]:
        again = [
            second_reflection_prompt(chat, letters[int(np.argmax(found))], CHOOSE)
            for chat, found in sound
        ]
        second = engine.choose(again, letters)
        return [_expected(found, after) for (_, found), after in zip(sound, second, strict=True)]

    return for_sound(first, doubted)


def _expected(first: Probabilities, second: Probabilities | Refused) -> Reflection | str:
    if isinstance(second, Refused):
        return f"second reflection: {second.reason}"
    value = self_reflection(expected_value(first.tolist()), expected_value(second.tolist()))
    return Reflection(value, failures=0)
