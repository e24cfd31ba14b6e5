"""`stages.conversation`: turns of many rows at once, checked against a loop over rows."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import MESSAGES
from stages.conversation import Turns, picked, split_at_target

_text = st.none() | st.text(alphabet="ab \n", max_size=4)
turn = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool"]),
        "content": _text,
        "name": st.none(),
        "tool_calls": _text,
        "tool_call_id": st.none(),
    }
)
# A slice, since a table that was filtered or cut hands out arrays that do not start at 0.
sliced = st.tuples(st.lists(st.none() | st.lists(turn, max_size=4)), st.integers(0, 3))


def cut(given_rows: tuple[list[list[dict[str, str | None]] | None], int]) -> tuple[pa.Array, list]:
    rows, start = given_rows
    return pa.array(rows, MESSAGES).slice(start), rows[start:]


def said(turn: dict[str, str | None]) -> str:
    content, calls = turn["content"], turn["tool_calls"]
    if calls is not None and not (content or "").strip():
        return calls
    return content or ""


@given(sliced)
def test_the_target_is_the_last_assistant_turn(given_rows: tuple) -> None:
    column, rows = cut(given_rows)
    turns = Turns.of(column)

    answers = picked(pl.Series(turns.texts()), turns.targets())

    by_row = [[said(t) for t in row or [] if t["role"] == "assistant"] for row in rows]
    assert answers.to_list() == [found[-1] if found else None for found in by_row]


@given(sliced)
def test_joined_prompts_are_the_turns_before_the_target(given_rows: tuple) -> None:
    column, rows = cut(given_rows)
    turns = Turns.of(column)

    prompts = turns.joined(turns.before(turns.targets()), "|").to_list()

    expected = []
    for row in rows:
        last = max((i for i, t in enumerate(row or []) if t["role"] == "assistant"), default=0)
        expected.append("|".join(said(t) for t in (row or [])[:last]))
    assert prompts == expected


@given(sliced)
def test_totals_are_sums_over_each_row(given_rows: tuple) -> None:
    column, rows = cut(given_rows)
    turns = Turns.of(column)

    found = turns.total(turns.by("user"))

    assert found.tolist() == [sum(t["role"] == "user" for t in row or []) for row in rows]
    assert found.dtype == np.int64


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_target_that_only_calls_tools_is_the_text_of_its_calls(content: str | None) -> None:
    calls = '[{"function":{"name":"now"}}]'
    messages = [
        {"role": "user", "content": "What time is it?", "name": None},
        {"role": "assistant", "content": content, "tool_calls": calls},
        {"role": "tool", "content": "12:00"},
    ]

    assert split_at_target(messages) == (
        [{"role": "user", "content": "What time is it?"}],
        {"role": "assistant", "content": calls},
    )


def test_a_conversation_without_an_assistant_has_no_target() -> None:
    assert split_at_target([{"role": "user", "content": "Hello?"}]) is None
