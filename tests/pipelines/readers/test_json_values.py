import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.readers.json_values import read_json_values
from pipelines.readers.records import Broken

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(TEXT, VALUE, max_size=4), max_size=12)
STYLE = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def read(content: bytes, size: int = 1 << 20):
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return [record for batch in read_json_values(pieces) for record in batch]


@given(RECORDS, STYLE, st.integers(1, 40))
def test_an_array_comes_out_as_it_went_in_however_it_is_cut(records, style, size):
    found = read(json.dumps(records, **style).encode(), size)
    assert [value for _, _, value in found] == records
    assert [line for line, _, _ in found] == list(range(1, len(records) + 1))


@given(RECORDS, STYLE, st.integers(1, 40))
def test_objects_one_after_another_come_out_as_they_went_in(records, style, size):
    content = "\n".join(json.dumps(record, **style) for record in records).encode()
    found = read(content, size)
    assert [value for _, _, value in found] == records
    assert [json.loads(raw) for _, raw, _ in found] == records


@given(st.lists(st.fixed_dictionaries({"prompt": VALUE, "answer": VALUE}), max_size=9), st.data())
def test_a_prefix_of_an_array_gives_the_records_before_and_one_break(records, data):
    content = json.dumps(records).encode()
    cut = data.draw(st.integers(1, len(content) - 1))
    *sound, last = read(content[:cut])
    assert [value for _, _, value in sound] == records[: len(sound)]
    assert isinstance(last[2], Broken)


@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_end_well(content, size):
    whole = [(raw, value) for _, raw, value in read(content)]
    assert [(raw, value) for _, raw, value in read(content, size)] == whole or b"\\" in content


GOOD = [{"a": n, "b": [{"c": n}, {"c": 2 * n}]} for n in range(6)]


@pytest.mark.parametrize(
    "broken",
    [
        '{"a": 1,, "b": []}',
        '{"a": 1 "b": []}',
        '{"a": "never closed, "b": []}',
        '{"a": 1, "b": [{"c": 1}, {"c": 2}}',
        '{"a": 1, "b": [{"c": 1}, {"c": 2}',
        "{'a': 1}",
        "hello",
        '{"a": tru, "b": []}',
    ],
)
@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_a_broken_record_costs_no_other(broken, size):
    texts = [json.dumps(record) for record in GOOD]
    content = f"[{', '.join([*texts[:3], broken, *texts[3:]])}]"
    found = read(content.encode(), size)
    assert [value for _, _, value in found if not isinstance(value, Broken)] == GOOD
    assert [
        (line, raw.decode(), value.reason)
        for line, raw, value in found
        if isinstance(value, Broken)
    ] == [(4, broken, "broken_json")]


def test_a_value_longer_than_many_chunks_comes_in():
    record = {"a": "x" * 3_000_000}
    found = read(json.dumps([record, record]).encode(), 1_000)
    assert [value for _, _, value in found] == [record, record]
