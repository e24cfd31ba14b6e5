"""`clear.filter`, estimator `agreement`: what an answer is, and how many samples share it."""

import json
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.clear.agreement import ANSWER_MARK, extracted
from stages.clear.filter.agreement import AgreementFilter
from stages.keep import KeepAbove

MARK = re.compile(ANSWER_MARK)
ONE = AgreementFilter(estimator="agreement", samples_from="meta.samples", keep=KeepAbove(above=0.5))
SEVERAL = AgreementFilter(estimator="agreement", samples_from=("meta.x", "meta.y", "meta.z"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 + 2 = <<2+2=4>>4\n#### 4", Decimal(4)),
        ("so she makes 18\nA: 18", Decimal(18)),
        ("explanation: it is\nanswer: Paris.", "Paris"),
        ("**Answer:** 72", Decimal(72)),
        ("The answer : 7", Decimal(7)),
        ("A: 3\nno, wait\nA: 4", Decimal(4)),
        ("answer: 5 apples\nThank you!", "5 apples"),
        ("####\n12", Decimal(12)),
        ("#### 1,000", Decimal(1000)),
        ("#### 1,234,567.50", Decimal("1234567.5")),
        ("#### 1000.0", Decimal(1000)),
        ("#### 1000.", Decimal(1000)),
        ("#### $1000", Decimal(1000)),
        ("#### $ 1,000.00", Decimal(1000)),
        ("#### 12€", Decimal(12)),
        ("#### -5", Decimal(-5)),
        ("#### -$5", Decimal(-5)),
        ("#### $-5", Decimal(-5)),
        ("#### −5", Decimal(-5)),
        ("#### +5", Decimal(5)),
        ("#### .5", Decimal("0.5")),
        ("#### 007", Decimal(7)),
        ("#### 1,00", "1,00"),
        ("#### 1,0000", "1,0000"),
        ("#### 5%", "5%"),
        ("#### 1/2", "1/2"),
        ("#### $", "$"),
        ("#### -", "-"),
        ("#### 1e3", "1e3"),
        ("#### ٣", "٣"),
        ("USA: no, this is no mark", None),
        ("there is no mark", None),
        ("", None),
        ("#### ", None),
        ("A: .", None),
    ],
)
def test_what_an_answer_is(text: str, answer: Decimal | str | None) -> None:
    assert extracted(text, MARK) == answer


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"\\boxed\{([^}]*)\}", r"\boxed{1} and then \boxed{2,000}", Decimal(2000)),
        (r"\\boxed\{([^}]*)\}", r"\boxed{}", None),
        (r"(?i)result is", "The result is 4\nas said", Decimal(4)),
        (r"x(\d)?", "x", None),
    ],
)
def test_a_pattern_of_ones_own(pattern: str, text: str, answer: Decimal | str | None) -> None:
    assert extracted(text, re.compile(pattern)) == answer


@given(st.integers(-(10**15), 10**15), st.integers(0, 3))
def test_a_number_is_the_same_however_it_is_written(number: int, zeros: int) -> None:
    decimals = "." + "0" * zeros if zeros else ""
    spellings = [
        f"#### {number}{decimals}",
        f"A: {number:,}{decimals}",
        f"answer: ${number:,}{decimals}",
    ]

    assert {extracted(text, MARK) for text in spellings} == {Decimal(number)}


def rows(instructions: Any, answers: list[str], **meta: list[str | None]) -> pa.Table:
    table = instructions(*[[("user", "How many?"), ("assistant", answer)] for answer in answers])
    for name, values in meta.items():
        table = table.append_column(f"meta.{name}", pa.array(values, pa.string()))
    return table


def test_the_share_of_the_samples_with_the_same_answer(instructions: Any, curated: Any) -> None:
    samples = json.dumps(["x\nA: 1,000", "so\n#### 999", "$1000 is my answer: $1000.00"])
    table = rows(instructions, ["sum\nA: 1000", "sum\nA: 999", "A: 1"], samples=[samples] * 3)

    outcome = curated(ONE, table)

    assert outcome.scores.rows() == [
        (pytest.approx(2 / 3, abs=1e-12), 3, 0, None),
        (pytest.approx(1 / 3, abs=1e-12), 3, 0, None),
        (0.0, 3, 0, None),
    ]
    assert outcome.kept() == ["r0"]
    assert outcome.reasons() == {"r1": "low_confidence", "r2": "low_confidence"}


def test_a_sample_without_an_answer_does_not_agree_and_is_counted(
    instructions: Any, scored: Any
) -> None:
    table = rows(instructions, ["A: 4"], samples=[json.dumps(["A: 4", "hm", "", "A: 4"])])

    assert scored(ONE, table, None).to_pylist() == [
        {"confidence": 0.5, "samples": 4, "unread": 2, "error": None}
    ]


def test_several_columns_are_a_sample_each_and_absent_ones_are_left_out(
    instructions: Any, scored: Any
) -> None:
    table = rows(
        instructions, ["A: 4", "A: 4"], x=["A: 4", None], y=["A: 5", "A: 4"], z=["[1]", None]
    )

    assert scored(SEVERAL, table, None).to_pylist() == [
        {"confidence": pytest.approx(1 / 3, abs=1e-12), "samples": 3, "unread": 1, "error": None},
        {"confidence": 1.0, "samples": 1, "unread": 0, "error": None},
    ]


@pytest.mark.parametrize(
    ("answer", "samples", "error"),
    [
        ("A: 4", None, "meta.samples is not there"),
        ("A: 4", "A: 4", "meta.samples is no list of texts: 'A: 4'"),
        ("A: 4", '{"a": 1}', "meta.samples is no list of texts: '{\"a\": 1}'"),
        ("A: 4", '["A: 4", 4]', "meta.samples is no list of texts: '[\"A: 4\", 4]'"),
        ("A: 4", "[]", "there are no samples"),
        (
            "four",
            '["A: 4"]',
            "no answer can be read in the last assistant turn (answer_pattern)",
        ),
    ],
)
def test_a_row_that_nobody_can_judge_has_a_reason(
    instructions: Any, scored: Any, answer: str, samples: str | None, error: str
) -> None:
    found = scored(ONE, rows(instructions, [answer], samples=[samples]), None)

    assert found["error"].to_pylist() == [error]


def test_a_row_without_an_answer_at_all_fails(instructions: Any, scored: Any) -> None:
    table = instructions([("user", "Hello?")]).append_column("meta.samples", pa.array(["[]"]))

    assert scored(ONE, table, None)["error"].to_pylist() == ["there is no assistant turn"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"samples_from": "samples"}, "String should match pattern"),
        ({"samples_from": []}, "at least 1 item"),
        ({"samples_from": "meta.x", "answer_pattern": "("}, "is no regular expression: missing )"),
        ({"samples_from": "meta.x", "model": "judge"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_config_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        AgreementFilter(estimator="agreement", **given)
