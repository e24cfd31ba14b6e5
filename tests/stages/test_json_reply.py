"""Replies as models write them, and as they should never have been written."""

import contextlib
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.json_reply import LEVELS, Unreadable, json_object

OBJECT = {"score": 4, "why": "It is {nearly} right."}
TEXT = json.dumps(OBJECT)


@pytest.mark.parametrize(
    "reply",
    [
        TEXT,
        f"\n  {TEXT}\n",
        json.dumps(OBJECT, indent=2),
        f"Here you are: {TEXT} Is that of use?",
        f"The set {{x, y}} is not empty.\n{TEXT}",
        f"```json\n{TEXT}\n```",
        f"Sure.\n```json\n{TEXT}\n```\nAnything else?",
        f"~~~\n{TEXT}\n~~~",
        f"```json {TEXT} ```",
        f"```json\n{TEXT}",
        f'For {{"x": 1}} it is\n```\n{TEXT}\n```',
        f"```python\nprint({{}})\n```\n```json\n{TEXT}\n```",
        f'<think>\n{{"score": 1}}? No.\n</think>\n{TEXT}',
        f"{TEXT}\n{TEXT}",
        f"[{TEXT}]",
    ],
)
def test_the_object_is_found_in_what_models_write_around_it(reply: str) -> None:
    assert json_object(reply) == OBJECT


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("{}", {}),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}),
        ('{"a": "</think>"}', {"a": "</think>"}),
        ('{"a": "```\\n{}\\n```"}', {"a": "```\n{}\n```"}),
        ('{"a": {"b": {}}}', {"a": {"b": {}}}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    ],
)
def test_the_whole_reply_is_read_first(reply: str, found: object) -> None:
    assert json_object(reply) == found


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("Four.", "there is no JSON object"),
        ("[1, 2]", "there is no JSON object"),
        ("{x} and {}", "there is no JSON object"),
        ('{"a": 1', "the JSON object is not complete"),
        ('{"a": "so far and no', "the JSON object is not complete"),
        ('{"a": {"b": 1}, "c":', "the JSON object is not complete"),
        (
            "{\"a\": 1, 'b': 2}",
            "it is no valid JSON: Expecting property name enclosed in double quotes, at: 'b': 2}",
        ),
        ('{"a": 1 "b": 2}', "it is no valid JSON: Expecting ',' delimiter, at: \"b\": 2}"),
        ('{"a": 1} or {"a": 2}', "there are several JSON objects, and they differ"),
        ('{"a": 1} {"a":', "the JSON object is not complete"),
        (
            '```\n{"a": 1}\n```\n```\n{"a": 2}\n```',
            "there are several JSON objects, and they differ",
        ),
        ('{"a": 1, "a": 2}', "the key 'a' stands there more than once"),
        ('{"b": {"a": 1, "a": 1}}', "the key 'a' stands there more than once"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ('{"a": "\\ud800"}', "it holds half of a character, such as \\ud800"),
        ('{"\\udc00": 1}', "it holds half of a character, such as \\ud800"),
        ('{"a": 1e999}', "1e999 is too large a number"),
        ('{"a": ' + "9" * 5_000 + "}", "it holds a number that is too long"),
        ("<think>\n" + TEXT + "\n</think>\n", "it is empty"),
    ],
)
def test_what_cannot_be_read_says_why(reply: str, reason: str) -> None:
    with pytest.raises(Unreadable) as raised:
        json_object(reply)
    assert str(raised.value) == reason


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def test_nesting_ends_at_a_fixed_level() -> None:
    assert json_object(nested(LEVELS)) == json.loads(nested(LEVELS))
    with pytest.raises(Unreadable, match=f"it is nested deeper than {LEVELS} levels"):
        json_object(nested(LEVELS + 1))


@pytest.mark.parametrize(
    "reply",
    [
        nested(200_000),
        '{"a":' * 400_000,
        '{"a":' + "[" * 2_000_000,
        '{"' * 1_000_000,
        "{" * 2_000_000,
        "{ " * 1_000_000,
        "{" + " " * 2_000_000,
        "```json\n" * 250_000,
        '```\n{"a\n' * 250_000,
        "</think>" * 250_000,
        '{"a":1}' * 280_000 + "{",
        '{"a":1} {"b":' * 150_000,
        "x" * 2_000_000,
    ],
    ids=lambda reply: reply[:12],
)
def test_two_megabytes_of_anything_are_read_or_refused_soon(reply: str) -> None:
    began = time.perf_counter()
    with contextlib.suppress(Unreadable):
        assert json_object(reply) == {"a": 1}
    assert time.perf_counter() - began < 5  # 0.1 to 1 s; quadratic would be an hour


def test_an_object_of_two_megabytes_is_read() -> None:
    large = {"answer": "z" * 2_000_000}
    assert json_object("So: " + json.dumps(large)) == large


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
STRINGS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    SCALARS | STRINGS,
    lambda inner: st.lists(inner) | st.dictionaries(STRINGS, inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(STRINGS, VALUES, min_size=1)
PROSE = st.text(st.characters(exclude_characters="{}`~<", exclude_categories=["Cs"]))


@given(OBJECTS, PROSE, PROSE, st.sampled_from([None, 2]), st.booleans())
def test_any_object_comes_back_from_any_prose(found, before, after, indent, ascii_only) -> None:
    text = json.dumps(found, indent=indent, ensure_ascii=ascii_only)
    assert json_object(text) == found
    assert json_object(f"{before}{text}{after}") == found
    assert json_object(f"{before}\n```json\n{text}\n```\n{after}") == found


@given(OBJECTS, st.data())
def test_a_part_of_an_object_is_never_taken_for_the_whole(found, data) -> None:
    text = json.dumps(found)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(Unreadable):
        json_object(text[:cut])


@given(OBJECTS, OBJECTS)
def test_of_two_objects_none_is_chosen(one, other) -> None:
    both = f"{json.dumps(one)}\n{json.dumps(other)}"
    if one == other:
        assert json_object(both) == one
    else:
        with pytest.raises(Unreadable, match="there are several JSON objects, and they differ"):
            json_object(both)


@given(st.text() | st.text(st.sampled_from('{}[]":,`~\\ntrue1e- \n')))
@example('{"\ud800": "\\ud800"}')
def test_whatever_a_model_writes_is_an_object_or_unreadable(reply: str) -> None:
    with contextlib.suppress(Unreadable):  # any other exception fails this test
        assert isinstance(json_object(reply), dict)
