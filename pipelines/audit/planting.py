"""Known-bad rows: copies of rows whose answer has been spoiled in a known way.

swapped     the answer of another row, chosen by chance
neighbour   the answer to a similar question (TF-IDF)
truncated   the answer is cut at 20-70 %, inside a word or a sentence
number      one number of the answer is changed
negated     one statement of the answer says the opposite
echo        the answer repeats the question
context     the answer is another sentence of the context that the question gives

Everything follows from the rows and the seed: no model, no global generator.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, get_args

import numpy as np

from pipelines.audit.spoiling import context_sentence, negated, number_changed, truncated
from schemas.ids import digest

Kind = Literal["swapped", "neighbour", "truncated", "number", "negated", "echo", "context"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

# Cosine of TF-IDF vectors of two questions. From 0.9 on they may be one question in other words,
# whose answer is right; below 0.1 they share nothing but common words.
NEIGHBOUR_COSINES: Final = (0.1, 0.9)

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Candidate:
    """A row that may be copied and spoiled.

    number  its row in the table of candidates
    prompt  its last user turn before the answer; answer: its last assistant turn
    """

    number: int
    id: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Planted:
    """A bad answer for a candidate."""

    candidate: Candidate
    answer: str


@dataclass(frozen=True)
class Planting:
    """The bad rows of one kind. tried: how many candidates were looked at until it were enough."""

    kind: Kind
    rows: tuple[Planted, ...]
    tried: int


def candidate_of(number: int, row: Mapping[str, Any]) -> Candidate | None:
    """The candidate that a row (id, messages) is; None without a question and an answer in text."""
    turns = row["messages"]
    at = last_answer(turns)
    if at is None or turns[at]["tool_calls"] is not None:
        return None
    asked = [turn["content"] or "" for turn in turns[:at] if turn["role"] == "user"]
    answer = turns[at]["content"] or ""
    if not asked or not asked[-1].strip() or not answer.strip():
        return None
    return Candidate(number, row["id"], asked[-1], answer)


def last_answer(turns: Sequence[Mapping[str, Any]]) -> int | None:
    """Where the last assistant turn stands."""
    places = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
    return places[-1] if places else None


def plant(kind: Kind, candidates: Sequence[Candidate], count: int, seed: int) -> Planting:
    """Up to `count` bad rows of one kind, from candidates in an order that the seed decides."""
    order = sorted(candidates, key=lambda one: digest("planted", seed, kind, one.id))
    made = {"swapped": _swapped, "neighbour": _neighbours}.get(kind, _spoiled(kind, seed))
    rows: list[Planted] = []
    tried = 0
    for candidate, answer in made(order):
        tried += 1
        if answer is not None and _says(answer) != _says(candidate.answer):
            rows.append(Planted(candidate, answer))
        if len(rows) == count:
            break
    return Planting(kind, tuple(rows), tried)


Made = Iterator[tuple[Candidate, str | None]]


def _spoiled(kind: Kind, seed: int) -> Callable[[Sequence[Candidate]], Made]:
    def spoil(candidate: Candidate) -> str | None:
        rng = Random(digest("spoiled", seed, kind, candidate.id))
        match kind:
            case "truncated":
                return truncated(candidate.answer, rng)
            case "number":
                return number_changed(candidate.answer, rng)
            case "negated":
                return negated(candidate.answer, rng)
            case "context":
                return context_sentence(candidate.prompt, candidate.answer, rng)
            case _:
                return candidate.prompt

    return lambda order: ((one, spoil(one)) for one in order)


def _swapped(order: Sequence[Candidate]) -> Made:
    """Each gets the answer of the next one that asks something else; the last that of the first."""
    for at, candidate in enumerate(order):
        others = (order[(at + step) % len(order)] for step in range(1, len(order)))
        yield candidate, next((o.answer for o in others if _differ(candidate, o)), None)


def _neighbours(order: Sequence[Candidate]) -> Made:
    """Each gets the answer to the most similar question that is not nearly its own."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # late: it takes 1 s

    if not any(_WORD.search(one.prompt) for one in order):  # TF-IDF refuses texts without words
        return
    vectors = TfidfVectorizer(sublinear_tf=True, token_pattern=_WORD.pattern).fit_transform(
        [one.prompt for one in order]
    )
    least, most = NEIGHBOUR_COSINES
    for at, candidate in enumerate(order):
        cosines = (vectors @ vectors[at].T).toarray()[:, 0]
        nearest = np.argsort(-cosines, kind="stable")
        near = (order[n] for n in nearest if least <= cosines[n] < most)
        yield candidate, next((o.answer for o in near if _differ(candidate, o)), None)


def _differ(one: Candidate, other: Candidate) -> bool:
    return _says(one.prompt) != _says(other.prompt) and _says(one.answer) != _says(other.answer)


def _says(text: str) -> str:
    return " ".join(text.casefold().split())
