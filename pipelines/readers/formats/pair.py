"""Formats with a chosen and a rejected answer."""

import re
from collections.abc import Mapping
from typing import Any, Final

from pipelines.readers.formats.conversation import with_system
from pipelines.readers.formats.fields import (
    MISSING,
    Fields,
    RecordError,
    json_list,
    optional,
    optional_number,
    optional_text,
    required,
    take,
    text,
    wrong_type,
)
from pipelines.readers.formats.plain import joined
from pipelines.readers.formats.turns import Messages, extra_column, message, turns_of

_SPEAKER: Final = re.compile(r"\n\n(Human|Assistant):")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}


class Pair:
    """Records with chosen and rejected (texts, messages, or lists of them) to preference rows.

    The prompt is that of the record (text, messages, or text and input). Where the two sides are
    whole conversations it is the longest run of turns that they share, at least one turn of each
    side left over; a prompt column that says something else then stays in meta.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._prompt = columns.get("prompt")
        self._input = columns.get("input")
        self._turns = columns.get("messages")
        self._system = columns.get("system")
        self._chosen = columns["chosen"]
        self._rejected = columns["rejected"]
        self._tools = columns.get("tools")
        self._scores = [columns.get(name) for name in ("score_chosen", "score_rejected", "margin")]

    def __call__(self, record: Fields) -> tuple[Any, ...]:
        """prompt, chosen, rejected, tools, score_chosen, score_rejected, margin."""
        chosen = self._side(record, self._chosen)
        rejected = self._side(record, self._rejected)
        if chosen[:1] and rejected[:1] and _opens(chosen) and _opens(rejected):
            prompt, chosen, rejected = split(chosen, rejected)
            self._forget_prompt(record, prompt)
        else:
            prompt = self._given_prompt(record)
        check_sides(prompt, chosen, rejected)
        prompt = with_system(optional_text(record, self._system), prompt)
        tools = json_list(optional(record, self._tools), self._tools or "")
        return prompt, chosen, rejected, tools, *scores(record, self._scores)

    def _side(self, record: Fields, column: str) -> Messages:
        value = required(record, column)
        if type(value) is str and not value.lstrip().startswith("[{"):
            return [message("assistant", value)]
        if type(value) not in (list, dict, str):
            raise wrong_type(column, value, "a text or messages")
        messages, extras = turns_of(value, column)
        if extras is not None:
            record[extra_column(column)] = extras
        return messages

    def _given_prompt(self, record: Fields) -> Messages:
        if self._turns is not None:
            return self._turns_in(record, self._turns)
        if self._prompt is None:
            return []
        if type(record.get(self._prompt)) in (list, dict):
            return self._turns_in(record, self._prompt)
        prompt = joined(text(record, self._prompt), optional_text(record, self._input))
        return [message("user", prompt)]

    def _turns_in(self, record: Fields, column: str) -> Messages:
        messages, extras = turns_of(required(record, column), column)
        if extras is not None:
            record[extra_column(column)] = extras
        return messages

    def _forget_prompt(self, record: Fields, prompt: Messages) -> None:
        """Take the prompt column away where it only repeats the conversation's prompt."""
        column = self._prompt or self._turns
        value = MISSING if column is None else take(record, column)
        if column is None or value is MISSING:
            return
        if type(value) is str:
            repeats = bool(prompt) and prompt[-1]["content"] == value
        else:
            repeats = type(value) is list and turns_of(value, column) == (prompt, None)
        if not repeats:
            record[column] = value


class Transcripts:
    r"""Records whose sides are texts like "\n\nHuman: ...\n\nAssistant: ..." to preference rows.

    The prompt is the longest run of turns that both share. One space after the colon belongs to the
    transcript; everything else of a turn is kept as it is.

    Source: Bai et al. 2022, https://arxiv.org/abs/2204.05862 (the hh-rlhf data).
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._chosen = columns["chosen"]
        self._rejected = columns["rejected"]
        self._scores = [columns.get(name) for name in ("score_chosen", "score_rejected", "margin")]

    def __call__(self, record: Fields) -> tuple[Any, ...]:
        chosen = transcript(text(record, self._chosen), self._chosen)
        rejected = transcript(text(record, self._rejected), self._rejected)
        prompt, chosen, rejected = split(chosen, rejected)
        check_sides(prompt, chosen, rejected)
        return prompt, chosen, rejected, None, *scores(record, self._scores)


def transcript(value: str, column: str) -> Messages:
    """The turns of a transcript."""
    before, *rest = _SPEAKER.split(value)
    if before.strip() or not rest:
        message_ = f"'{column}' does not begin with a line 'Human:' or 'Assistant:'"
        raise RecordError("broken_transcript", message_)
    return [
        message(_ROLES[speaker], words.removeprefix(" "))
        for speaker, words in zip(rest[::2], rest[1::2], strict=True)
    ]


def is_transcript(value: Any) -> bool:
    return isinstance(value, str) and _SPEAKER.match(value) is not None


def split(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """(longest shared prefix, rest of chosen, rest of rejected); neither rest is empty."""
    shared = 0
    limit = min(len(chosen), len(rejected)) - 1
    while shared < limit and chosen[shared] == rejected[shared]:
        shared += 1
    return chosen[:shared], chosen[shared:], rejected[shared:]


def check_sides(prompt: Messages, chosen: Messages, rejected: Messages) -> None:
    if not prompt:
        raise RecordError("no_prompt", "there is no prompt that chosen and rejected share")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not any(turn["role"] == "assistant" for turn in side):
            raise RecordError("no_assistant_turn", f"'{name}' has no assistant turn")


def scores(record: Fields, columns: list[str | None]) -> tuple[float | None, ...]:
    """score_chosen, score_rejected, and the margin: as given, else their difference."""
    chosen, rejected, margin = (optional_number(record, column) for column in columns)
    if margin is None and chosen is not None and rejected is not None:
        margin = chosen - rejected
    return chosen, rejected, margin


def _opens(side: Messages) -> bool:
    """Whether a side begins with the prompt, and is no bare answer."""
    return side[0]["role"] not in ("assistant", "tool")
