"""`dedup.exact`: the first of each group of equal texts stays."""

from typing import Any

import polars as pl
import pytest

from stages.context import Context
from stages.dedup.exact import ExactDedup


def chat(question: str, answer: str) -> list[tuple[str, str]]:
    return [("user", question), ("assistant", answer)]


def test_the_first_of_each_group_by_place_is_kept(instructions: Any, curated: Any) -> None:
    rows = instructions(
        chat("a", "1"), chat("b", "2"), chat("A ", "1"), chat("b", "2"), chat("a", "1")
    )

    assert curated(ExactDedup(), rows).by_id() == {
        "r0": ("keep", None, "{}"),
        "r1": ("keep", None, "{}"),
        "r2": ("drop", "duplicate", '{"duplicate_of":"r0"}'),
        "r3": ("drop", "duplicate", '{"duplicate_of":"r1"}'),
        "r4": ("drop", "duplicate", '{"duplicate_of":"r0"}'),
    }


@pytest.mark.parametrize(
    ("normalize", "kept"), [("nfc-lower", ["r0"]), ("none", ["r0", "r1", "r2"])]
)
def test_case_white_space_and_composition_count_only_without_normalisation(
    normalize: str, kept: list[str], instructions: Any, curated: Any
) -> None:
    rows = instructions(chat("Café", "x y"), chat("cafe\u0301", "X  y\n"), chat("CAFÉ", " x\ty"))

    assert curated(ExactDedup(normalize=normalize), rows).kept() == kept


def test_roles_and_tool_calls_tell_rows_apart(instructions: Any, curated: Any) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": '[{"a":1}]'}
    other = {"role": "assistant", "content": None, "tool_calls": '[{"A":1}]'}
    rows = instructions(
        [("user", "a"), ("assistant", "b")],
        [("system", "a"), ("assistant", "b")],
        [("user", "ab"), ("assistant", "")],
        [("user", "a"), call],
        [("user", "a"), other],
    )

    assert curated(ExactDedup(), rows).reasons() == {}


def test_a_preference_row_is_its_prompt_and_both_answers(preferences: Any, curated: Any) -> None:
    rows = preferences(("p", "good", "bad"), ("p", "bad", "good"), ("P", "good", "Bad"))

    outcome = curated(ExactDedup(row_type="preference"), rows)

    assert outcome.reasons() == {"r2": "duplicate"}


def test_a_document_is_its_text(documents: Any, curated: Any) -> None:
    rows = documents("One text.", "Another.", "one  TEXT.")

    assert curated(ExactDedup(row_type="document"), rows).reasons() == {"r2": "duplicate"}


def test_a_million_keys_are_decided_within_seconds() -> None:
    keys = pl.int_range(1_000_000, eager=True) % 900_000
    rows = pl.DataFrame(
        {
            "id": pl.int_range(1_000_000, eager=True).cast(pl.String),
            "text_key": keys.cast(pl.String).str.zfill(16).cast(pl.Binary),
        }
    )

    decided = ExactDedup().decide(rows.lazy(), Context()).collect()

    assert decided["verdict"].value_counts().sort("verdict").rows() == [
        ("drop", 100_000),
        ("keep", 900_000),
    ]
    assert decided["evidence"][900_000] == '{"duplicate_of":"0"}'
