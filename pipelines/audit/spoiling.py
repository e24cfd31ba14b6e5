"""Ways to spoil one answer, each a pure function of texts and a seeded random number generator.

Each gives the bad answer, or None where it does not fit: too short to be cut, no number to change,
no context to quote. The rules for words are English.
"""

import re
from decimal import Decimal
from random import Random
from typing import Final

# Shorter answers are often names and numbers: a cut one may still be a right answer.
MIN_CUT_CHARS: Final = 40
CUT_FROM: Final = 0.2
CUT_TO: Final = 0.7
# A context with fewer sentences than this leaves no wrong one to choose.
MIN_CONTEXT_SENTENCES: Final = 3
MIN_SENTENCE_WORDS: Final = 5

_SENTENCE: Final = re.compile(r"[^\n]+?(?:[.!?]+[\"')\]]*(?=\s|$)|(?=\n)|$)")
_PARAGRAPHS: Final = re.compile(r"\n\s*\n")
_NUMBER: Final = re.compile(
    r"(?<![\w.,])(?:\d{1,3}(?:,\d{3})+|(?!0\d)\d+)(?:\.\d+)?(?!\w|[.,]\d)", re.ASCII
)
# Longer ones are identifiers or digits of pi; from 4,300 digits on Python refuses to read them.
MAX_NUMBER_CHARS: Final = 20
# Numbers that count or name things and say nothing: with another one the answer is as good.
_MARKS: Final = tuple(
    re.compile(pattern, re.ASCII | re.MULTILINE | re.IGNORECASE)
    for pattern in (
        # "1. Sleep", "**2.** Eat", "### 3: Drink", "Day 4: go"
        r"^[\s>*_#-]*(?:(?:day|week)\s+)?\(?\d{1,3}[*_]*[.:)][*_]*[ \t]+(?=\S)",
        r"(?<!\S)\(?\d{1,2}\)",  # "1) sleep, (2) eat"
        r"\[\d+\]",  # a reference
        r"\b(?:step|part|phase|option|point|tip|example|item|question|section|reason|method)"
        r"\s+#?\d+\b",
    )
)
# "1. sleep 2. eat" within a line: only where both are there, since a sentence may end in "in 2."
_COUNTED: Final = re.compile(r"(?<!\S)(\d{1,2})[.:]\s", re.ASCII)
_YEARS: Final = range(1000, 2101)

# Not may and might: "it may not rain" goes together with "it may rain".
_AUXILIARY: Final = "is|are|was|were|can|could|will|would|should|must"
_NEGATION: Final = re.compile(
    rf"\b(?:(?P<can>cannot|can't|won't)|(?P<short>{_AUXILIARY}|has|have|had|does|do|did)n't"
    rf"|(?P<long>{_AUXILIARY}|has|have|had|does|do|did) not|(?P<plain>{_AUXILIARY}))\b(?!['’])"
)
_POSITIVE: Final = {"cannot": "can", "can't": "can", "won't": "will"}


def truncated(answer: str, rng: Random) -> str | None:
    """The first 20-70 % of the answer, cut inside a word or a sentence."""
    text = answer.strip()
    if len(text) < MIN_CUT_CHARS:
        return None
    first, last = int(len(text) * CUT_FROM), int(len(text) * CUT_TO)
    inside = [
        at
        for at in range(first, last + 1)
        if text[at - 1].isalnum() and (text[at].isalnum() or text[at] == " ")
    ]
    return text[: rng.choice(inside)] if inside else None


def number_changed(answer: str, rng: Random) -> str | None:
    """The answer with one of its numbers changed: a year by 2-40, others by up to a half.

    Left alone are numbers that count parts ("**1. Sleep**", "Step 2", "2) eat") or name a source
    ("[3]"), and those of 20 characters and more.
    """
    marks = _marks(answer)
    found = [
        number
        for number in _NUMBER.finditer(answer)
        if len(number.group()) < MAX_NUMBER_CHARS
        and not any(start <= number.start() < end for start, end in marks)
    ]
    if not found:
        return None
    chosen = rng.choice(found)
    return answer[: chosen.start()] + _other_number(chosen.group(), rng) + answer[chosen.end() :]


def _marks(answer: str) -> list[tuple[int, int]]:
    """Where numbers stand that count or name the parts of an answer."""
    marks = [found.span() for mark in _MARKS for found in mark.finditer(answer)]
    counted = list(_COUNTED.finditer(answer))
    if {"1", "2"} <= {found[1] for found in counted}:
        marks += [found.span() for found in counted]
    return marks


def _other_number(text: str, rng: Random) -> str:
    """Another number, written in the same way."""
    decimals = len(text.partition(".")[2])
    units = int(text.replace(",", "").replace(".", ""))
    if decimals == 0 and "," not in text and units in _YEARS:
        change = rng.randint(2, 40)
    else:
        change = rng.randint(1, max(1, units // 2))
    other = units + change if change > units or rng.random() < 0.5 else units - change
    return f"{Decimal(other).scaleb(-decimals):{',' if ',' in text else ''}.{decimals}f}"


def negated(answer: str, rng: Random) -> str | None:
    """The answer with the sense of one statement turned round: `is` to `is not`, `can't` to `can`.

    Questions are left alone.
    """
    statements = [
        found.span()
        for found in _SENTENCE.finditer(answer)
        if not found.group().rstrip("\"')]").endswith("?")
    ]
    spots = [
        spot
        for start, end in statements
        if (spot := _NEGATION.search(answer, start, end)) is not None
    ]
    if not spots:
        return None
    chosen = rng.choice(spots)
    return answer[: chosen.start()] + _turned(chosen) + answer[chosen.end() :]


def _turned(spot: re.Match[str]) -> str:
    if spot["plain"]:
        return f"{spot['plain']} not"
    return _POSITIVE[spot["can"]] if spot["can"] else spot["short"] or spot["long"]


def context_sentence(prompt: str, answer: str, rng: Random) -> str | None:
    """Another sentence of the context that the prompt gives; neither holds the other.

    The context is the longer part of a prompt of several paragraphs: all but the first, or all but
    the last. Source: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776, who spoil SQuAD and
    DROP in this way.
    """
    sentences = context_sentences(prompt)
    said = _folded(answer)
    wrong = [one for one in sentences if _folded(one) not in said and said not in _folded(one)]
    if len(sentences) < MIN_CONTEXT_SENTENCES or not wrong:
        return None
    return rng.choice(wrong)


def context_sentences(prompt: str) -> list[str]:
    """The sentences of five words and more of a prompt's context, [] where it has none."""
    paragraphs = [part for part in _PARAGRAPHS.split(prompt.strip()) if part.strip()]
    if len(paragraphs) < 2:
        return []
    behind, before = "\n".join(paragraphs[1:]), "\n".join(paragraphs[:-1])
    context = behind if len(behind) >= len(before) else before
    found = (one.group().strip() for one in _SENTENCE.finditer(context))
    return [one for one in found if len(one.split()) >= MIN_SENTENCE_WORDS]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".!?")
