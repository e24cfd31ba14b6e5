"""Messages of a chat in the form that chat templates take."""

import json
from typing import Any

from stages.engines import Message


def plain_message(message: Message, knows_tool_calls: bool) -> dict[str, Any]:
    """The message as templates expect it, without keys that hold nothing.

    knows_tool_calls: whether the template writes tool calls out by itself.
    Raises ValueError for tool calls that are no JSON.
    """
    plain: dict[str, Any] = {
        key: value for key, value in message.items() if value is not None and key != "tool_calls"
    }
    calls = [
        {**call, **_parsed_arguments(call)} for call in tool_calls_of(message.get("tool_calls"))
    ]
    if calls and knows_tool_calls:
        plain["tool_calls"] = calls
    elif calls:
        # A template without tools would leave the calls out silently. They stand in the text
        # instead, in the form of Hermes and Qwen.
        written = [f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls]
        plain["content"] = "\n".join([*filter(None, [plain.get("content")]), *written])
    plain.setdefault("content", None)
    return plain


def tool_calls_of(text: str | None) -> list[dict[str, Any]]:
    """The tool calls of a message. Raises ValueError for a text that is no list of objects."""
    if not text:
        return []
    calls = json.loads(text)
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValueError("tool_calls is no list of objects")
    return calls


def _parsed_arguments(call: dict[str, Any]) -> dict[str, Any]:
    """The call's arguments as an object, which is what templates write out."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return {}
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return {}  # arguments that are no JSON stay the text that they are
    return {"function": {**function, "arguments": arguments}}
