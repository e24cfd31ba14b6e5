"""Lists of messages, in OpenAI's spelling and in ShareGPT's, as canonical messages."""

from typing import Any, Final

from pipelines.readers.formats.fields import (
    MISSING,
    Fields,
    RecordError,
    json_list,
    json_text,
    parsed,
    wrong_type,
)

Message = dict[str, str | None]
Messages = list[Message]

ROLES: Final = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
}
CALL: Final = "function_call"


def message(role: str, content: str | None) -> Message:
    return {
        "role": role,
        "content": content,
        "name": None,
        "tool_calls": None,
        "tool_call_id": None,
    }


def is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ("role" in value or "from" in value)


def is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(is_turn(item) for item in value)


def turns_of(value: Any, column: str) -> tuple[Messages, list[Fields] | None]:
    """(messages, what each turn held beside them or None), from a list or its JSON text (csv)."""
    if type(value) is str and value.lstrip().startswith("["):
        value = parsed(value, column)
    if type(value) is dict:
        value = [value]
    if type(value) is not list:
        raise wrong_type(column, value, "a list of messages")
    messages: Messages = []
    extras: list[Fields] = []
    for number, turn in enumerate(value):
        where = f"{column}[{number}]"
        if type(turn) is not dict:
            raise wrong_type(where, turn, "a message")
        turn = dict(turn)
        messages.append(_message(turn, where))
        extras.append({key: item for key, item in turn.items() if item is not None})
    return messages, extras if any(extras) else None


def extra_column(column: str) -> str:
    """Where meta keeps what the turns of a column held beside the canonical fields."""
    return f"{column}_extra"


def _message(turn: Fields, where: str) -> Message:
    """The canonical message; `turn` keeps what is not part of it."""
    spoken_by = turn.pop("role", None) or turn.pop("from", None)
    if spoken_by is None:
        raise RecordError("missing_field", f"'{where}.role' is missing or null")
    if type(spoken_by) is not str:
        raise wrong_type(f"{where}.role", spoken_by, "a text")
    role = spoken_by.lower()
    content = _content(turn, where)
    if role == CALL:
        return _spoken_call(turn, content, where)
    if role not in ROLES:
        raise RecordError("unknown_role", f"'{where}.role' is '{spoken_by[:100]}'")
    made = message(ROLES[role], None if content is MISSING else content)
    if turn:
        _add_tools(made, turn, where)
    if made["content"] is None and made["tool_calls"] is None:
        missing = content is MISSING
        reason = "missing_field" if missing else "null_field"
        raise RecordError(reason, f"'{where}.content' is {'missing' if missing else 'null'}")
    return made


def _content(turn: Fields, where: str) -> Any:
    """A text, None or MISSING. A list of text parts is joined."""
    content = turn.pop("content", MISSING)
    if content is MISSING or (content is None and "value" in turn):
        content = turn.pop("value", MISSING)
    if type(content) is list:
        content = "".join(_part(part, f"{where}.content") for part in content)
    if content is None or content is MISSING or type(content) is str:
        return content
    raise wrong_type(f"{where}.content", content, "a text")


def _part(part: Any, where: str) -> str:
    if type(part) is dict and part.get("type") == "text" and type(part.get("text")) is str:
        return str(part["text"])
    raise wrong_type(where, part, "text parts only")


def _add_tools(made: Message, turn: Fields, where: str) -> None:
    for field in ("name", "tool_call_id"):
        value = turn.pop(field, None)
        if value is not None and type(value) is not str:
            raise wrong_type(f"{where}.{field}", value, "a text")
        made[field] = value
    calls = turn.pop("tool_calls", None)
    made["tool_calls"] = None if calls == [] else json_list(calls, f"{where}.tool_calls")
    old = turn.pop(CALL, None)  # OpenAI's spelling before there were several calls
    if old is not None and made["tool_calls"] is None:
        made["tool_calls"] = _calls([old], where)
    elif old is not None:
        turn[CALL] = old


def _spoken_call(turn: Fields, content: Any, where: str) -> Message:
    """ShareGPT's function_call: the call is the JSON text of the turn.

    Where that text is not spelled as `json_text` would, the turn keeps it as `value`.
    """
    if type(content) is not str:
        raise RecordError("null_field", f"'{where}.value' is null or missing")
    value = parsed(content, f"{where}.value")
    calls = value if type(value) is list else [value]
    made = message("assistant", None)
    made["tool_calls"] = _calls(calls, where)
    if json_text(value, where) != content:
        turn["value"] = content
    return made


def _calls(calls: list[Any], where: str) -> str:
    for call in calls:
        if type(call) is not dict or type(call.get("name")) is not str:
            raise RecordError("wrong_type", f"'{where}' calls a function without a name")
    return json_text([{"type": "function", "function": call} for call in calls], where)
