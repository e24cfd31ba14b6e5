"""One row as one record of a format: plain functions, the definition of each format.

Each takes a row as a dict of its canonical columns and returns the record without the source's
other columns; it raises Unfit where the format cannot hold the row without losing a part of it.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from pipelines.exporters import exact_json
from pipelines.exporters.spec import (
    Alpaca,
    Messages,
    Preference,
    PromptCompletion,
    Records,
    ShareGpt,
)

Row = Mapping[str, Any]
Message = Mapping[str, Any]
Record = dict[str, Any]

SHAREGPT_SPEAKERS: Final = {"system": "system", "user": "human", "assistant": "gpt"}
SCORES: Final = ("score_chosen", "score_rejected", "margin")

# Names that mean something beside any conversation, to our readers and to others.
_ASIDE: Final = ("system", "tools", "label", "kto_tag")
# trl tells by these what a row is (is_conversational, apply_chat_template, maybe_convert_to_chatml,
# _unpair_row of its data_utils): with `prompt` beside `messages` its SFTTrainer looks for a
# completion, and `input_ids` stand for rows that are tokens already.
_TRL: Final = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "input_ids",
)
# The names that each format gives a meaning, whether or not a row has the column. A column of the
# source that is called like one of them is renamed. Where a row has a `text`, it is that which
# trl's SFTTrainer closes with the end-of-text token, and no longer the completion.
RESERVED: Final[dict[str, tuple[str, ...]]] = {
    "messages": (*_TRL, *_ASIDE),
    "prompt-completion": (*_TRL, "text", *_ASIDE),
    "alpaca": ("instruction", "input", "output", "history", *_ASIDE),
    "sharegpt": (*_TRL, *_ASIDE),
    "preference": (*_TRL, "label", "system", "tools", *SCORES),
}
# Who speaks by turns in ShareGPT; LLaMA-Factory skips other rows (SharegptDatasetConverter).
_BY_TURNS: Final = (("human", "observation"), ("gpt", "function_call"))


class Unfit(Exception):
    """The format cannot hold this row. `reason` is a short code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def record_of(spec: Records) -> Callable[[Row], Record]:
    """The function that turns a row into a record of that format."""
    match spec:
        case Messages():
            return messages_record
        case PromptCompletion(style="plain"):
            return plain_completion_record
        case PromptCompletion():
            return completion_record
        case Alpaca():
            return alpaca_record
        case ShareGpt():
            return sharegpt_record
        case Preference(style="plain"):
            return plain_preference_record
        case Preference():
            return preference_record


def messages_record(row: Row) -> Record:
    return {"messages": _openai(row["messages"]), **_tools(row), **_label(row)}


def completion_record(row: Row) -> Record:
    messages = row["messages"]
    if not messages or messages[-1]["role"] != "assistant":
        raise Unfit("last_turn_no_answer")
    if len(messages) == 1:
        raise Unfit("no_prompt")
    return {
        "prompt": _openai(messages[:-1]),
        "completion": _openai(messages[-1:]),
        **_tools(row),
        **_label(row),
    }


def plain_completion_record(row: Row) -> Record:
    _, exchanges = _exchanges(row)
    if len(exchanges) > 1:
        raise Unfit("multi_turn")
    if row["messages"][0]["role"] == "system":
        raise Unfit("system_turn")
    [(prompt, completion)] = exchanges
    return {"prompt": prompt, "completion": completion, **_label(row)}


def alpaca_record(row: Row) -> Record:
    system, [*history, (instruction, output)] = _exchanges(row)
    record: Record = {"instruction": instruction, "input": "", "output": output}
    if system is not None:
        record["system"] = system
    if history:
        record["history"] = [list(exchange) for exchange in history]
    return {**record, **_label(row)}


def sharegpt_record(row: Row) -> Record:
    turns = []
    call: Mapping[str, Any] = {}
    for message in row["messages"]:
        if message["role"] == "tool":
            turns.append({"from": "observation", "value": _observation(message, call)})
        elif message["tool_calls"] is not None:
            call, function = _single_call(message)
            # Spelled with spaces, as such data mostly is and as our reader spells it.
            value = json.dumps(function, ensure_ascii=False)
            turns.append({"from": "function_call", "value": value})
            continue
        else:
            if message["role"] not in SHAREGPT_SPEAKERS:
                raise Unfit("other_role")
            turns.append({"from": SHAREGPT_SPEAKERS[message["role"]], "value": _words(message)})
        call = {}
    _check_turns([turn["from"] for turn in turns])
    tools = {} if row["tools"] is None else {"tools": _valid(row["tools"], "tools_no_json")}
    return {"conversations": turns, **tools, **_label(row)}


def preference_record(row: Row) -> Record:
    sides = {side: _openai(row[side]) for side in ("prompt", "chosen", "rejected")}
    return {**sides, **_tools(row), **_scores(row)}


def plain_preference_record(row: Row) -> Record:
    _refuse_tools(row, [*row["prompt"], *row["chosen"], *row["rejected"]])
    prompt = _single(row["prompt"], "user")
    chosen = _single(row["chosen"], "assistant")
    rejected = _single(row["rejected"], "assistant")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **_scores(row)}


def _openai(messages: Sequence[Message]) -> list[Record]:
    """Messages without absent fields; `content` is null where a turn only calls tools."""
    shaped = []
    for message in messages:
        turn: Record = {"role": message["role"], "content": message["content"]}
        if message["name"] is not None:
            turn["name"] = message["name"]
        if message["tool_calls"] is not None:
            calls = _valid(message["tool_calls"], "tool_calls_no_json")
            turn["tool_calls"] = orjson.Fragment(calls)
        if message["tool_call_id"] is not None:
            turn["tool_call_id"] = message["tool_call_id"]
        shaped.append(turn)
    return shaped


def _exchanges(row: Row) -> tuple[str | None, list[tuple[str, str]]]:
    """The system turn and the pairs of user turn and answer; at least one pair."""
    messages = list(row["messages"])
    _refuse_tools(row, messages)
    system = None
    if messages and messages[0]["role"] == "system":
        system = _words(messages.pop(0))
    roles = [message["role"] for message in messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise Unfit("turn_order")
    words = [_words(message) for message in messages]
    return system, list(zip(words[::2], words[1::2], strict=True))


def _refuse_tools(row: Row, messages: Sequence[Message]) -> None:
    """An empty list of tools is as good as none."""
    if row["tools"] not in (None, "[]") or any(
        message["role"] == "tool" or message["tool_calls"] is not None for message in messages
    ):
        raise Unfit("tools")


def _single(messages: Sequence[Message], role: str) -> str:
    if any(message["role"] == "system" for message in messages):
        raise Unfit("system_turn")
    if len(messages) != 1:
        raise Unfit("multi_turn")
    if messages[0]["role"] != role:
        raise Unfit("turn_order")
    return _words(messages[0])


def _check_turns(speakers: Sequence[str]) -> None:
    """After a system turn one side of _BY_TURNS and the other, at least once, with none left."""
    spoken = speakers[1:] if speakers[:1] == ["system"] else speakers
    in_order = all(one in _BY_TURNS[turn % 2] for turn, one in enumerate(spoken))
    if not spoken or len(spoken) % 2 or not in_order:
        raise Unfit("turn_order")


def _words(message: Message) -> str:
    """The content of a turn that is nothing but words."""
    if message["name"] is not None:
        raise Unfit("named_turn")
    if message["content"] is None:
        raise Unfit("no_content")
    return str(message["content"])


def _single_call(message: Message) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The one call of a turn, and its function (at least name and arguments) as ShareGPT has it."""
    calls = exact_json.loads(_valid(message["tool_calls"], "tool_calls_no_json"))
    if message["content"]:
        raise Unfit("words_beside_tool_call")
    if message["name"] is not None:
        raise Unfit("named_turn")
    if not isinstance(calls, list) or len(calls) != 1:
        raise Unfit("several_tool_calls")
    function = calls[0].get("function") if isinstance(calls[0], dict) else None
    if not isinstance(function, dict) or not {"name", "arguments"} <= function.keys():
        raise Unfit("tool_call_shape")
    return calls[0], {**function, "arguments": _arguments(function)}


def _arguments(function: Mapping[str, Any]) -> Any:
    """OpenAI has the arguments as JSON text, ShareGPT as the object that the text means."""
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = exact_json.loads(arguments)
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _observation(message: Message, call: Mapping[str, Any]) -> str:
    """What a tool answered; it must follow its call, since ShareGPT has no ids."""
    if not call:
        raise Unfit("turn_order")
    if message["tool_call_id"] not in (None, call.get("id")):
        raise Unfit("turn_order")
    if message["name"] not in (None, call["function"]["name"]):
        raise Unfit("named_turn")
    return _words({**message, "name": None})


def _valid(text: str, reason: str) -> str:
    try:
        return exact_json.one_line(text)
    except ValueError as error:
        raise Unfit(reason) from error


def _tools(row: Row) -> Record:
    if row["tools"] is None:
        return {}
    return {"tools": orjson.Fragment(_valid(row["tools"], "tools_no_json"))}


def _label(row: Row) -> Record:
    return {} if row["label"] is None else {"label": row["label"]}


def _scores(row: Row) -> Record:
    """The scores that there are. JSON has no NaN: such a score is as good as none."""
    scores = {name: row[name] for name in SCORES}
    return {k: v for k, v in scores.items() if v is not None and math.isfinite(v)}
