"""Chats as servers take them."""

from pipelines.engines.server.messages import bytes_of, messages_of
from stages.engines import Refused

CALLS = '[{"id": "7", "function": {"name": "add", "arguments": {"a": 1}}}]'


def test_nulls_are_left_out_and_an_empty_turn_is_empty_text():
    chat = [
        {"role": "system", "content": None, "name": None, "tool_calls": None},
        {"role": "user", "content": "Hi", "name": "ann"},
    ]
    assert messages_of(chat) == [
        {"role": "system", "content": ""},
        {"role": "user", "content": "Hi", "name": "ann"},
    ]


def test_tool_calls_are_objects_with_arguments_as_text():
    chat = [
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "content": "3", "tool_call_id": "7"},
    ]
    assert messages_of(chat) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "7",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a": 1}'},
                }
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "7"},
    ]


def test_tool_calls_that_are_no_json_are_refused():
    chat = [{"role": "assistant", "content": "x", "tool_calls": "add(1)"}]
    found = messages_of(chat)
    assert isinstance(found, Refused)
    assert found.reason.startswith("the chat cannot be sent: ")


def test_tool_calls_that_are_no_calls_are_refused():
    chat = [{"role": "assistant", "content": "x", "tool_calls": "[1]"}]
    assert messages_of(chat) == Refused("the chat cannot be sent: tool_calls is no list of objects")


def test_bytes_are_those_of_all_texts():
    assert bytes_of(
        [{"role": "user", "content": "né"}, {"role": "assistant", "content": None}]
    ) == (len("user") + 3 + len("assistant"))
