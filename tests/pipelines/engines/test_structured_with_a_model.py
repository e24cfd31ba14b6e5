"""Structured answers from the bundled model: 135M parameters rarely get it right, and lose none."""

import pytest
from pydantic import BaseModel

from stages.engines import Refused, Sampling
from stages.structured import structured


class Colour(BaseModel, frozen=True, extra="forbid"):
    name: str


QUESTIONS = ("Name a colour.", "What colour is grass?", "word " * 10_000)


@pytest.mark.slow
def test_each_sample_is_a_value_or_a_reason_and_a_prompt_too_long_is_refused(smollm2) -> None:
    found = structured(
        smollm2,
        [[{"role": "user", "content": question}] for question in QUESTIONS],
        Colour,
        Sampling(max_tokens=16, samples=2, temperature=0.7),
        [bytes([number]) for number in range(len(QUESTIONS))],
    )

    assert [type(one) for one in found] == [list, list, Refused]
    assert [len(samples) for samples in found[:2]] == [2, 2]
    for samples in found[:2]:
        for one in samples:
            reason = "the reply is not what was asked for: "
            assert isinstance(one, Colour) or one.startswith(reason), one
