"""Ids are the same on every machine: these were computed once and may never change."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import content_of, created_row_id, failed_row_id, row_id

CONTENT = "191abfddba9010a7b33c5137111d4b86"
MESSAGE = {
    "role": "user",
    "content": 'Hé 😀\n"quoted"',
    "name": None,
    "tool_calls": None,
    "tool_call_id": None,
}


def test_content_keys_never_change() -> None:
    assert content_of("instruction", [[MESSAGE], None, None]).hex() == CONTENT
    assert content_of("preference", [[MESSAGE], [], [], None]).hex() != CONTENT


def test_repeats_are_numbered() -> None:
    assert [row_id(b"\x01" * 16, n) for n in range(3)] == [
        "01" * 16,
        "01" * 16 + "-1",
        "01" * 16 + "-2",
    ]


def test_a_failed_row_is_named_by_file_line_and_bytes() -> None:
    names = {
        failed_row_id("a.jsonl", 1, b"x"),
        failed_row_id("a.jsonl", 2, b"x"),
        failed_row_id("b.jsonl", 1, b"x"),
        failed_row_id("a.jsonl", 1, b"y"),
    }
    assert len(names) == 4
    assert all(name.startswith("failed-") for name in names)


def test_a_created_row_is_named_by_maker_parents_and_number() -> None:
    assert created_row_id("s", ["a"], 0) == created_row_id("s", ["a"], 0)
    assert (
        len({created_row_id(s, p, n) for s in "st" for p in (["a"], ["a", "b"]) for n in (0, 1)})
        == 8
    )


@given(st.lists(st.text(), min_size=2, max_size=4), st.integers(1, 3))
def test_where_one_text_ends_and_the_next_begins_matters(texts: list[str], at: int) -> None:
    def content(parts: list[str]) -> bytes:
        return content_of(
            "instruction", [[MESSAGE | {"content": part} for part in parts], None, None]
        )

    at = min(at, len(texts) - 1)
    moved = [*texts[: at - 1], texts[at - 1] + texts[at], *texts[at + 1 :]]
    assert content(texts) != content(moved)
