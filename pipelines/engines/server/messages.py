"""Chats as the protocol of /chat/completions wants them."""

import json
from typing import Any

from pipelines.engines.chat_messages import tool_calls_of
from stages.engines import Chat, Message, Refused

# What every server must be able to answer.
GOOD_CHAT = [{"role": "user", "content": "Say yes."}]


def messages_of(chat: Chat) -> list[dict[str, Any]] | Refused:
    """role, content, name, tool_calls (objects, their arguments as JSON text) and tool_call_id.

    An assistant's turn that only calls tools has the content null; no other turn has.
    """
    try:
        return [_message(message) for message in chat]
    except ValueError as error:  # tool calls that are no JSON are a ValueError as well
        return Refused(f"the chat cannot be sent: {error}")


def _message(message: Message) -> dict[str, Any]:
    found = tool_calls_of(message.get("tool_calls"))
    calls = [_call(call, number) for number, call in enumerate(found)]
    content = message.get("content")
    plain: dict[str, Any] = {
        "role": message.get("role"),
        "content": content if content is not None or calls else "",
    }
    for name in ("name", "tool_call_id"):
        if message.get(name):
            plain[name] = message[name]
    if calls:
        plain["tool_calls"] = calls
    return plain


def _call(call: dict[str, Any], number: int) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict):
        raise ValueError("a tool call names no function")
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.get("id") or f"call_{number}",
        "type": call.get("type") or "function",
        "function": {**function, "arguments": arguments},
    }


def bytes_of(messages: list[dict[str, Any]]) -> int:
    """UTF-8 bytes of all texts: no tokenizer makes more tokens of them."""
    return sum(
        len(value.encode() if isinstance(value, str) else json.dumps(value).encode())
        for message in messages
        for value in message.values()
        if value is not None
    )
