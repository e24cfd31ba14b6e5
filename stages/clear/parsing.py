"""Reading a model's reply: the answer after `answer:`, the letter after `choice:`.

What cannot be read is None, never a guess.
"""

import re
from typing import Final, Literal

Letter = Literal["A", "B", "C"]

# At the start of a line and possibly in bold, as models write it; else anywhere.
_ANSWER_LINE: Final = re.compile(r"^[\s*#_>-]*answer[*_]*\s*:[*_]*", re.IGNORECASE | re.MULTILINE)
_ANSWER: Final = re.compile(r"\banswer\s*:", re.IGNORECASE)
# After a capital its line ends, or there is a bracket, punctuation ("(A) correct", "B, since it is
# wrong") or such a word without it, but no other letter: "A, B or C" and "(A) correct, (B)
# incorrect" repeat the form, and "A good reply" has an article. A small letter counts only at the
# end of its line.
_CHOICE: Final = re.compile(
    r"""\b(?i:choice)[*_]*\s*:[\s*_(\["']*
    (?:
        (?P<capital>[ABC])\b
        (?=
            [ \t\r*_"']*
            (?:$ | [)\](\[.,;:!?/|–—-] | (?i:correct|incorrect|not\ sure|is|since|because|as)\b)
        )
        (?! [^\w\n]+ (?:(?:or|and)[^\w\n]+)? [ABC]\b )
        (?! .* [(\[] (?!(?P=capital)) [ABC] [)\]] )
    | (?P<small>[abc])[\s*_)\]"'.]*$
    )""",
    re.MULTILINE | re.VERBOSE,
)
_CAPITAL: Final = re.compile(r"\b(?i:choice)[*_]*\s*:[\s*_(\[\"']*[ABC]\b")
# A last line that is a letter: "(A)", "**B**", "C.". Upper case only, since "a" is a word.
_LONE: Final = re.compile(r"^[\s*_(\[\"']*([ABC])[\s*_)\]\"'.:]*$")
# A last line that ends as models say it that do not keep to the form: "the correct answer is
# (B).", "I choose option C". Elsewhere it may be about the options of a multiple-choice question.
_SAID: Final = re.compile(
    r"\b(?:(?i:answer|choice)\s+is|(?i:option))\s*:?[\s*_(\[\"']*([ABC])"
    r"(?:[\s*_)\]]+(?i:correct|incorrect|not sure))?[\s*_)\]\"'.!]*$"
)
_QUOTES: Final = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`"))


def answer_of(reply: str) -> str | None:
    """What follows the last `answer:`, stripped; None where there is none or nothing follows."""
    marks = list(_ANSWER_LINE.finditer(reply)) or list(_ANSWER.finditer(reply))
    if not marks:
        return None
    return stripped(reply[marks[-1].end() :]) or None


def letter_of(reply: str, *, finished: bool) -> Letter | None:
    """The letter that a reflection chose. finished: false for a reply that was cut.

    After the last `choice:`; else, in a finished reply, alone on the last line or at its end after
    "answer is", "choice is" or "option". An earlier `choice:` never stands for a later one that
    cannot be read.
    """
    read = list(_CHOICE.finditer(reply))
    last = max((mark.start() for mark in _CAPITAL.finditer(reply)), default=0)
    chosen = [mark["capital"] or mark["small"] for mark in read if mark.start() >= last]
    lines = reply.strip().splitlines()
    if not chosen and finished and lines:
        chosen = _LONE.findall(lines[-1]) or _SAID.findall(lines[-1])
    if not chosen:
        return None
    letters: dict[str, Letter] = {"A": "A", "B": "B", "C": "C"}
    return letters[chosen[-1].upper()]


def stripped(text: str) -> str:
    """An answer as it is compared: without whitespace, emphasis or quotes around, or a period."""
    text = text.strip().strip("*_").strip()
    for left, right in _QUOTES:
        if len(text) > 1 and text.startswith(left) and text.endswith(right):
            text = text[1:-1].strip()
    return text.removesuffix(".").rstrip()
