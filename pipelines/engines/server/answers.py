"""What a server's JSON holds: choices, their texts and their tokens. All raise WrongShape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.engines.server.faults import WrongShape, as_json

# Reasons to end that may well leave no text: cut while it was thinking, a call, a filter.
_WITHOUT_TEXT = ("length", "tool_calls", "function_call", "content_filter")
# 0 but for rounding above; far below what any server writes for "impossible" (-9999).
_LOG_PROB = (-1e30, 0.001)


class Miscounted(WrongShape):
    """It holds another number of choices than were asked for, or numbers them otherwise."""


@dataclass(frozen=True)
class Choice:
    """One answer. `raw` is the server's object; finished: not cut at max_tokens."""

    text: str
    finished: bool
    raw: Mapping[str, Any]


def choices_of(body: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """`count` choices in order of their `index`."""
    found = body.get("choices")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise WrongShape(f"it holds no choices: {as_json(body)}")
    if len(found) != count:
        raise Miscounted(f"it holds {len(found)} choices, not {count}")
    indices = [one.get("index") for one in found]
    if indices == [None] * count:  # not every server counts them
        return found
    if sorted(index for index in indices if isinstance(index, int)) != list(range(count)):
        raise Miscounted(f"its choices are numbered {as_json(indices)}")
    return sorted(found, key=lambda one: int(one["index"]))


def chat_choices(body: Mapping[str, Any], count: int) -> list[Choice]:
    """The answers of /chat/completions."""
    return [
        Choice(_chat_text(one), one.get("finish_reason") != "length", one)
        for one in choices_of(body, count)
    ]


def _chat_text(choice: Mapping[str, Any]) -> str:
    """The answer without the thoughts before it.

    An answer that is null counts as empty where the server says why there is none: it was cut while
    the model was thinking, a filter took it, the model called a tool that it was not given, or
    thought and said nothing. `refusal` is the answer of a model that will not follow a schema. Else
    it is a fault.
    """
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise WrongShape("a choice holds no message")
    content = message.get("content")
    if isinstance(content, list):  # in parts, of which the texts are the answer
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, str):
        return content
    if content is None and isinstance(refusal := message.get("refusal"), str):
        return refusal
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if content is None and (thoughts or choice.get("finish_reason") in _WITHOUT_TEXT):
        return ""
    raise WrongShape(f"an answer's content is {as_json(content)}")


def top_tokens(choice: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The most probable first tokens of a chat's answer, with their natural-log probabilities."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        raise WrongShape("an answer holds no log-probabilities")
    listed = content[0].get("top_logprobs")
    if not isinstance(listed, list) or not listed:
        raise WrongShape("an answer holds no log-probabilities")
    return [_token(one) for one in listed]


def _token(one: Any) -> tuple[str, float]:
    token, value = (one.get("token"), one.get("logprob")) if isinstance(one, dict) else (None, None)
    if not isinstance(token, str):
        raise WrongShape(f"a log-probability is {as_json(one)}")
    return token, log_prob(value)


def log_prob(value: Any) -> float:
    """A natural-log probability. Raises WrongShape for what can be none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongShape(f"a log-probability is {as_json(value)}")
    if not _LOG_PROB[0] <= value <= _LOG_PROB[1]:
        raise WrongShape(f"a log-probability is {value}")
    return float(value)
