"""A row as a person reads it: named pieces of text."""

from collections.abc import Mapping
from typing import Any

Pieces = list[tuple[str, str]]


def pieces(row: Mapping[str, Any]) -> Pieces:
    """What there is to read in a row of the view `rows`: (name, text), in reading order.

    A conversation gives its turns, and `answer` for the last one of the assistant.
    """
    found: Pieces = []
    messages = row.get("messages") or []
    last = len(messages) - 1
    for number, message in enumerate(messages):
        role = message["role"]
        final = number == last and role == "assistant"
        found.append(("answer" if final else role, _said(message)))
    for name in ("prompt", "chosen", "rejected"):
        turns = row.get(name) or []
        if turns:
            found.append((name, "\n".join(_turn(message, len(turns) > 1) for message in turns)))
    for name in ("uri", "title", "text", "question", "candidate"):
        if row.get(name):
            found.append((name, str(row[name])))
    if row.get("choices"):
        found.append(("choices", " | ".join(row["choices"])))
    if row.get("type") == "audio_question" and row.get("answer"):
        found.append(("answer", str(row["answer"])))
    return found


def cut(text: str, length: int) -> str:
    """`text` in one line of at most `length` characters, the middle left out."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    head = (length - 3) * 2 // 3
    return f"{line[:head]} … {line[len(line) - (length - 3 - head) :]}"


def _turn(message: Mapping[str, Any], named: bool) -> str:
    return f"{message['role']}: {_said(message)}" if named else _said(message)


def _said(message: Mapping[str, Any]) -> str:
    parts = [message.get("content") or ""]
    if message.get("tool_calls"):
        parts.append(f"calls {message['tool_calls']}")
    return " ".join(part for part in parts if part)
