"""Formats with the whole conversation in one column: OpenAI's `messages`, ShareGPT."""

from collections.abc import Mapping
from typing import Any

from pipelines.readers.formats.fields import (
    Fields,
    RecordError,
    json_list,
    optional,
    optional_flag,
    optional_text,
    required,
)
from pipelines.readers.formats.turns import Messages, extra_column, message, turns_of


class Conversation:
    """Records with a list of messages to instruction rows."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._messages = columns["messages"]
        self._system = columns.get("system")
        self._tools = columns.get("tools")
        self._label = columns.get("label")

    def __call__(self, record: Fields) -> tuple[Any, ...]:
        """messages, tools, label."""
        messages, extras = turns_of(required(record, self._messages), self._messages)
        if not any(turn["role"] == "assistant" for turn in messages):
            raise RecordError("no_assistant_turn", f"'{self._messages}' has no assistant turn")
        if extras is not None:
            record[extra_column(self._messages)] = extras
        messages = with_system(optional_text(record, self._system), messages)
        tools = json_list(optional(record, self._tools), self._tools or "")
        return messages, tools, optional_flag(record, self._label)


def with_system(system: str, messages: Messages) -> Messages:
    """`messages` after the system turn, unless they begin with the very same one."""
    turn = message("system", system)
    return [turn, *messages] if system and messages[:1] != [turn] else messages
