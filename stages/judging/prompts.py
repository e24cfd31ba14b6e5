"""The texts that put two answers before a judge, in our own words.

The message that was answered comes first and the instructions after it, so that all prompts about a
row share their beginning; what reflects on a verdict begins as the prompt that asked for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from stages.conversation import with_instruction
from stages.judging.verdict import Letter

Turn = dict[str, Any]

# The answers go in at joints, not by str.format or str.replace: they may hold braces or each other.
_BEFORE_A: Final = """

Here are two answers to the message above.

[Answer A]
"""
_BEFORE_B: Final = """
[End of answer A]

[Answer B]
"""
_BEHIND: Final = """
[End of answer B]

Compare them: which one is right, complete and what the message asked for? Neither their length \
nor the order in which they stand here says anything about that. Is
(A) answer A the better one,
(B) answer B the better one, or
(C) neither better than the other?
"""
EXPLAIN_AND_DECIDE: Final = """\
Explain in one to three sentences what speaks for each of them, then give the letter as your \
verdict."""
DECIDE: Final = "Reply with the letter alone: A, B or C."

_VERDICTS: Final[Mapping[Letter, str]] = {
    "A": "Answer A is the better one.",
    "B": "Answer B is the better one.",
    "C": "Neither is better than the other.",
}
_REFLECT: Final = """
Somebody gave this verdict: {verdict}

Is that verdict
(A) correct,
(B) incorrect, or
(C) are you not sure?
"""
_AGAIN: Final = """\
Are you really sure about that? Look once more at the message, at both answers and at the verdict \
"{verdict}", then choose again:
(A) the verdict is correct,
(B) it is incorrect, or
(C) you are not sure.
"""
EXPLAIN_AND_CHOOSE: Final = "Explain in one or two sentences, then give the letter as your choice."


def comparison(
    prompt: Sequence[Mapping[str, str]], answers: tuple[str, str], instruction: str
) -> list[Turn]:
    """The chat that asks which of `answers` (A, B) is better. `instruction`: one of the first two.

    An empty instruction gives the beginning that all chats about these answers share.
    """
    first, second = answers
    return with_instruction(prompt, _BEFORE_A + first + _BEFORE_B + second + _BEHIND + instruction)


def reflection(
    prompt: Sequence[Mapping[str, str]], answers: tuple[str, str], verdict: Letter
) -> list[Turn]:
    """The chat that asks whether a verdict about these answers (A, B) is correct."""
    asked = _REFLECT.replace("{verdict}", _VERDICTS[verdict]) + EXPLAIN_AND_CHOOSE
    return comparison(prompt, answers, asked)


def second_reflection(first: Sequence[Turn], reply: str, verdict: Letter) -> list[Turn]:
    """The chat that goes on after the judge's `reply` to the first reflection and doubts it."""
    asked = _AGAIN.replace("{verdict}", _VERDICTS[verdict]) + EXPLAIN_AND_CHOOSE
    return [
        *first,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": asked},
    ]
