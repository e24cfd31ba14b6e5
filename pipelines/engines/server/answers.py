"""What a server's JSON holds: choices, their texts and their tokens. All raise WrongShape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.engines.server.faults import WrongShape, as_json

# Ends for which the server is at fault, as gateways, Mistral, z.AI, DeepSeek and vLLM name them.
_IN_TROUBLE = ("error", "network_error", "insufficient_system_resource", "abort")
# Reasons to end before the answer's own end: all names of a limit, and a filter.
_CUT = ("length", "max_tokens", "model_length", "model_context_window_exceeded", "content_filter")
# Reasons to end that may well leave no text: cut while it was thinking, a call, a filter.
_WITHOUT_TEXT = ("length", "tool_calls", "function_call", "content_filter")
# 0 but for rounding above; far below what any server writes for "impossible" (-9999).
_LOG_PROB = (-1e30, 0.001)


class Miscounted(WrongShape):
    """It holds another number of choices than were asked for, or numbers them otherwise."""


@dataclass(frozen=True)
class Choice:
    """One answer. `raw` is the server's object; finished: neither cut nor filtered."""

    text: str
    finished: bool
    raw: Mapping[str, Any]


def choices_of(body: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """`count` choices in order of their `index`."""
    found = sound_choices(body)
    if len(found) != count:
        raise Miscounted(f"it holds {len(found)} choices, not {count}")
    indices = [one.get("index") for one in found]
    if indices == [None] * count:  # not every server counts them
        return found
    if sorted(index for index in indices if isinstance(index, int)) != list(range(count)):
        raise Miscounted(f"its choices are numbered {as_json(indices)}")
    return sorted(found, key=lambda one: int(one["index"]))


def sound_choices(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All choices. Raises WrongShape as well when trouble of the server's has ended one of them."""
    found = body.get("choices")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise WrongShape(f"it holds no choices: {as_json(body)}")
    for one in found:
        if one.get("error") or one.get("finish_reason") in _IN_TROUBLE:
            trouble = one.get("error") or one["finish_reason"]
            raise WrongShape(f"trouble of the server's ended it: {as_json(trouble)}")
    return found


def is_finished(choice: Mapping[str, Any]) -> bool:
    """Whether an answer is whole: neither cut at a limit nor by a filter."""
    return choice.get("finish_reason") not in _CUT


def chat_choices(body: Mapping[str, Any], count: int) -> list[Choice]:
    """The answers of /chat/completions."""
    return [Choice(_chat_text(one), is_finished(one), one) for one in choices_of(body, count)]


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
