"""Formats with a prompt and a response in columns of their own: Alpaca, Dolly and the like."""

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
    text,
    wrong_type,
)
from pipelines.readers.formats.turns import Messages, extra_column, message, turns_of


class Plain:
    """Records with prompt and response (texts or lists of messages) to instruction rows.

    The user turn is the prompt, and after an empty line the input where there is one. `history`
    holds pairs of earlier user turns and answers.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._prompt = columns["prompt"]
        self._response = columns["response"]
        self._input = columns.get("input")
        self._system = columns.get("system")
        self._history = columns.get("history")
        self._tools = columns.get("tools")
        self._label = columns.get("label")

        self._rare = frozenset((self._system, self._history, self._tools, self._label)) - {None}

    def __call__(self, record: Fields) -> tuple[Any, ...]:
        """messages, tools, label."""
        prompt: Any = record.get(self._prompt)
        response: Any = record.get(self._response)
        given = record.get(self._input) if self._input is not None else None
        plain = type(prompt) is str and type(response) is str and (not given or type(given) is str)
        if plain and self._rare.isdisjoint(record):
            # Almost every record of almost every file: three times faster than the careful way.
            del record[self._prompt], record[self._response]
            if self._input is not None:
                record.pop(self._input, None)
            return _exchange(f"{prompt}\n\n{given}" if given else prompt, response), None, None
        return self._careful(record)

    def _careful(self, record: Fields) -> tuple[Any, ...]:
        messages: Messages = []
        if self._system is not None and (system := optional_text(record, self._system)):
            messages.append(message("system", system))
        if self._history is not None:
            messages += _earlier(optional(record, self._history), self._history)
        if type(record.get(self._prompt)) is list or type(record.get(self._response)) is list:
            messages += _spoken(record, self._prompt, "user")
            messages += _spoken(record, self._response, "assistant")
        else:
            prompt = text(record, self._prompt)
            if self._input is not None:
                prompt = joined(prompt, optional_text(record, self._input))
            messages.append(message("user", prompt))
            messages.append(message("assistant", text(record, self._response)))
        tools = None
        if self._tools is not None:
            tools = json_list(optional(record, self._tools), self._tools)
        label = None if self._label is None else optional_flag(record, self._label)
        return messages, tools, label


def _exchange(prompt: str, response: str) -> Messages:
    """Both turns written out: twice as fast as two calls of `message`."""
    return [
        {"role": "user", "content": prompt, "name": None, "tool_calls": None, "tool_call_id": None},
        {
            "role": "assistant",
            "content": response,
            "name": None,
            "tool_calls": None,
            "tool_call_id": None,
        },
    ]


def joined(prompt: str, given: str) -> str:
    return f"{prompt}\n\n{given}" if given else prompt


def _spoken(record: Fields, column: str, role: str) -> Messages:
    """Turns from a list of messages, or the one turn that a text is."""
    value = required(record, column)
    if type(value) is str:
        return [message(role, value)]
    messages, extras = turns_of(value, column)
    if role == "assistant" and not any(turn["role"] == role for turn in messages):
        raise RecordError("no_assistant_turn", f"'{column}' has no assistant turn")
    if extras is not None:
        record[extra_column(column)] = extras
    return messages


def _earlier(history: Any, column: str) -> Messages:
    if history is None:
        return []
    if type(history) is not list:
        raise wrong_type(column, history, "a list of pairs")
    messages: Messages = []
    for pair in history:
        if type(pair) is not list or [type(turn) for turn in pair] != [str, str]:
            raise wrong_type(column, pair, "pairs of texts")
        messages += [message("user", pair[0]), message("assistant", pair[1])]
    return messages
