"""The texts that `clear.filter` puts to a model, in our own words; the structure is BSDetector's.

The question comes first and the instructions after it, so that all prompts about a row share their
beginning; the second reflection continues the first.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from stages.conversation import with_instruction

Turn = dict[str, str]

EXPLAIN_AND_ANSWER: Final = """

Work out the reply to the message above. First explain your reasoning in a few sentences, then \
give the reply itself. Use exactly this form:
explanation: <your reasoning>
answer: <the reply, and nothing after it>"""

_JUDGE: Final = """

Here is a proposed reply to the message above:
{answer}

Is the proposed reply
(A) correct,
(B) incorrect, or
(C) are you not sure?
"""
_AGAIN: Final = """\
Are you really sure about that? Look once more at the message and at the proposed reply, then \
choose again:
(A) correct,
(B) incorrect, or
(C) not sure.
"""
EXPLAIN_AND_CHOOSE: Final = """\
First explain in one or two sentences, then give the letter. Use exactly this form:
explanation: <why>
choice: <A, B or C>"""
CHOOSE: Final = "Reply with the letter alone: A, B or C."


def sample_prompt(prompt: Sequence[Mapping[str, str]]) -> list[Turn]:
    """The chat that asks for an answer of the model's own."""
    return with_instruction(prompt, EXPLAIN_AND_ANSWER)


def reflection_prompt(
    prompt: Sequence[Mapping[str, str]], answer: str, instruction: str
) -> list[Turn]:
    """The chat that asks whether `answer` is correct. `instruction`: one of the two above."""
    # Not str.format over texts of the data: those may hold braces.
    return with_instruction(prompt, _JUDGE.replace("{answer}", answer) + instruction)


def second_reflection_prompt(first: Sequence[Turn], reply: str, instruction: str) -> list[Turn]:
    """The chat that goes on after the model's `reply` to the first reflection and doubts it."""
    return [
        *first,
        {"role": "assistant", "content": reply},
        {"role": "user", "content": _AGAIN + instruction},
    ]
