"""`stages.dedup.text_keys`: keys are equal exactly where the normalised texts are."""

import unicodedata

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import MESSAGES
from stages.dedup.text_keys import conversation_keys, document_keys, normalized

# White space of all kinds, letters that change with case and with NFC, and plain ASCII.
letters = st.text(alphabet=" \t\n\r\x0b\x1c\x1f\u00a0\u2003AbZ9_éE\u0301İßǅ語😀", max_size=8)
texts = st.lists(st.none() | letters | st.text(max_size=8))
turns = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant"]),
        "content": st.none() | st.sampled_from(["", "a", "A", "a ", "1:a", "assistant"]),
        "name": st.none() | st.sampled_from(["", "a"]),
        "tool_calls": st.none() | st.sampled_from(["[]", "a"]),
        "tool_call_id": st.none() | st.just("a"),
    }
)
conversations = st.lists(st.lists(turns, max_size=3), max_size=6)


def plainly(text: str | None) -> str:
    return " ".join(unicodedata.normalize("NFC", text or "").lower().split())


@given(texts, st.integers(0, 2))
def test_normalisation_over_bytes_equals_normalisation_of_each_text(
    given_texts: list[str | None], start: int
) -> None:
    array = pa.array(given_texts, pa.string()).slice(start)

    assert normalized(array).to_pylist() == [plainly(text) for text in given_texts[start:]]


@given(texts)
def test_documents_share_a_key_where_their_normalised_texts_are_equal(
    given_texts: list[str | None],
) -> None:
    keys = document_keys(pa.array(given_texts, pa.string()), "nfc-lower").to_pylist()

    plain = [plainly(text) for text in given_texts]
    assert len(set(keys)) == len(set(plain))
    assert len(set(zip(keys, plain, strict=True))) == len(set(plain))


@given(conversations)
def test_different_conversations_have_different_keys(rows: list[list[dict[str, str]]]) -> None:
    keys = conversation_keys(pa.array(rows, MESSAGES), "none").to_pylist()

    plain = [repr([sorted(turn.items()) for turn in row]) for row in rows]
    assert len(set(keys)) == len(set(plain))
    assert len(set(zip(keys, plain, strict=True))) == len(set(plain))


@given(conversations)
def test_a_key_does_not_depend_on_the_rows_around(rows: list[list[dict[str, str]]]) -> None:
    column = pa.array(rows, MESSAGES)

    together = conversation_keys(column, "nfc-lower").to_pylist()

    apart = [
        conversation_keys(column.slice(at, 1), "nfc-lower")[0].as_py() for at in range(len(rows))
    ]
    assert together == apart
